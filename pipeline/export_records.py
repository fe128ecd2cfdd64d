"""The items, users and histories of a bundle, in the files that serving/records.py reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalogue import Vocabularies, titles
from pipeline.sequences import UserSequences
from pipeline.tables import FieldSchema, Tables
from pipeline.vocabulary import Vocabulary
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
    """Write items.parquet: item_id, title, count and the raw fields, one row per item of the vocabulary."""
    columns = {
        "item_id": vocabularies.items.values,
        "title": pa.array(titles(tables, vocabularies)[1:], pa.string()),
        "count": pa.array(vocabularies.items.counts, pa.int64()),
        **_fields(tables.items(), "item_id", tables.schema.item_fields, vocabularies.items),
    }
    pq.write_table(pa.table(columns), directory / "items.parquet")


def write_users(tables: Tables, vocabularies: Vocabularies, histories: Histories, directory: Path) -> None:
    """Write users.parquet and the histories, one row per user of the vocabulary."""
    columns = {
        "user_id": vocabularies.users.values,
        "count": pa.array(vocabularies.users.counts, pa.int64()),
        **_fields(tables.users(), "user_id", tables.schema.user_fields, vocabularies.users),
    }
    pq.write_table(pa.table(columns), directory / "users.parquet")
    np.save(directory / "history_offsets.npy", histories.offsets.astype(np.int64))
    np.save(directory / "history_items.npy", histories.items.astype(np.int32))


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
) -> dict[str, pa.ChunkedArray]:
    """The raw field columns in vocabulary order; null where the table has no row. NaN becomes null."""
    rows = pc.index_in(vocabulary.values, value_set=table[id_name].combine_chunks())
    columns = {}
    for field in fields:
        if field.kind != "title":
            column = table[field.name].take(rows)
            if field.kind == "numeric":
                column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
            columns[FIELD + field.name] = column
    return columns
