"""The items, users and histories of a bundle, in the files that serving/records.py reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.catalogue import Vocabularies, titles
from pipeline.sequences import UserSequences
from pipeline.tables import FieldSchema, Tables
from pipeline.vocabulary import Vocabulary
from serving.ids import Ids
from serving.records import FIELD


@dataclass(frozen=True)
class Histories:
    """Each user's known items, oldest first: user u has items[offsets[u - 1] : offsets[u]].

    offsets: int64 [U + 1]. items: int32.
    """

    offsets: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, sequences: UserSequences, size: int, ends: np.ndarray | None = None) -> "Histories":
        """The histories of a user vocabulary of `size`; only each sequence's first `ends` [S] events if given."""
        lengths = np.diff(sequences.offsets)
        position = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], lengths)
        kept = (sequences.items > 0) & (position < np.repeat(lengths if ends is None else ends, lengths))
        counts = np.bincount(np.repeat(sequences.users, lengths)[kept], minlength=size)
        return cls(np.cumsum(counts), sequences.items[kept])

    def of_user(self, user: int) -> np.ndarray:
        """int32 [n]."""
        return self.items[self.offsets[user - 1] : self.offsets[user]]


def write_items(tables: Tables, vocabularies: Vocabularies, directory: Path) -> None:
    """Write items.arrow: item_id, title, count and the raw fields, one row per item of the vocabulary; and its ids."""
    columns = {
        "item_id": vocabularies.items.values.cast(pa.large_string()),
        "title": pa.array(titles(tables, vocabularies)[1:], pa.large_string()),
        "count": pa.array(vocabularies.items.counts, pa.int64()),
        **_fields(tables.items(), "item_id", tables.schema.item_fields, vocabularies.items),
    }
    _write(columns, directory / "items.arrow")
    _write_ids(columns["item_id"], "item", directory)


def write_users(tables: Tables, vocabularies: Vocabularies, histories: Histories, directory: Path) -> None:
    """Write users.arrow, the ids and the histories, one row per user of the vocabulary."""
    columns = {
        "user_id": vocabularies.users.values.cast(pa.large_string()),
        "count": pa.array(vocabularies.users.counts, pa.int64()),
        **_fields(tables.users(), "user_id", tables.schema.user_fields, vocabularies.users),
    }
    _write(columns, directory / "users.arrow")
    _write_ids(columns["user_id"], "user", directory)
    np.save(directory / "history_offsets.npy", histories.offsets.astype(np.int64))
    np.save(directory / "history_items.npy", histories.items.astype(np.int32))


def _write(columns: Mapping[str, pa.Array], path: Path) -> None:
    """As one batch, uncompressed: what can be mapped as it is."""
    batch = pa.record_batch(dict(columns))
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)


def _write_ids(values: pa.Array, side: str, directory: Path) -> None:
    ids = Ids.of(values)
    np.save(directory / f"{side}_hashes.npy", ids.hashes)
    np.save(directory / f"{side}_order.npy", ids.order)


def user_fields(
    vocabularies: Vocabularies, tables: Tables, spec: Mapping[str, tuple[int, ...]], directory: Path
) -> list[dict[str, Any]]:
    """Write the vocabularies of the user fields the tower reads; return how serving encodes each of them."""
    fields = [field for field in tables.schema.user_fields if field.name in spec]
    (directory / "vocabulary").mkdir()
    settings = []
    for number, field in enumerate(fields):
        file = "" if field.kind == "numeric" else f"vocabulary/{number}.parquet"
        if file:
            vocabularies.user_fields[field.name].write(directory / file)
        boundaries = vocabularies.boundaries.get(f"user.{field.name}", np.empty(0))
        width = spec[field.name][0] if field.kind == "multi" else 0
        settings.append(
            {
                "name": field.name,
                "kind": field.kind,
                "width": width,
                "vocabulary": file,
                "boundaries": boundaries.tolist(),
            }
        )
    return settings


def _fields(
    table: pa.Table, id_name: str, fields: Sequence[FieldSchema], vocabulary: Vocabulary
) -> dict[str, pa.Array]:
    """The raw field columns in vocabulary order; null where the table has no row. NaN becomes null."""
    rows = pc.index_in(vocabulary.values, value_set=table[id_name].combine_chunks())
    return {
        FIELD + field.name: _field(table[field.name].combine_chunks().take(rows), field)
        for field in fields
        if field.kind != "title"
    }


def _field(values: pa.Array, field: FieldSchema) -> pa.Array:
    """As the bundle keeps it: strings once each, in a dictionary, which filters look their values up in."""
    if field.kind == "numeric":
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if field.kind == "categorical":
        return values.dictionary_encode()
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    return pa.ListArray.from_arrays(offsets, values.flatten().dictionary_encode(), mask=values.is_null())
