"""The catalogue in numbers: every vocabulary, and the field values of all items and users as index arrays.

Row r of a field table belongs to index r of the vocabulary; row 0 is the unknown item (user): all zeros.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.artifacts import Artifact, open_artifact
from pipeline.storage import Location
from pipeline.tables import FieldSchema, Tables
from pipeline.vocabulary import Vocabulary

KIND, VERSION = "vocabularies", 1
NUMERIC_FILE = "numeric.json"
MISSING = ""
"""The value of an item that has none: an ordinary value with an index of its own."""


@dataclass(frozen=True)
class Vocabularies:
    """The artefact written by beam_jobs/vocabularies.py; each vocabulary is read when it is asked for."""

    artifact: Artifact

    @classmethod
    def read(cls, path: Location | str) -> "Vocabularies":
        """Open the artefact at `path`. Raises ArtifactError."""
        return cls(open_artifact(path, KIND, VERSION))

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary.read(self.artifact.file("items.parquet"))

    @cached_property
    def users(self) -> Vocabulary:
        return Vocabulary.read(self.artifact.file("users.parquet"))

    @cached_property
    def item_fields(self) -> dict[str, Vocabulary]:
        """The vocabulary of each categorical or multi-valued field of items."""
        return _read_fields(self.artifact, "item")

    @cached_property
    def user_fields(self) -> dict[str, Vocabulary]:
        """The vocabulary of each categorical or multi-valued field of users."""
        return _read_fields(self.artifact, "user")

    @cached_property
    def boundaries(self) -> dict[str, np.ndarray]:
        """Float64 bucket boundaries of each numeric field, by `item.<name>` or `user.<name>`."""
        read = json.loads(self.artifact.file(NUMERIC_FILE).read_text(encoding="utf-8"))
        return {name: np.asarray(values, dtype=np.float64) for name, values in read.items()}


def field_file(side: str, name: str) -> str:
    """The file of a field's vocabulary in the artefact; side: `item` or `user`."""
    return f"{side}.{quote(name, safe=' ')}.parquet"


def _read_fields(artifact: Artifact, side: str) -> dict[str, Vocabulary]:
    paths = artifact.parts(f"{side}.")
    return {unquote(p.name.removeprefix(f"{side}.").removesuffix(".parquet")): Vocabulary.read(p) for p in paths}


@dataclass(frozen=True)
class EncodedField:
    """One field as indices in 0 .. size - 1; 0 is unknown (of an item: padding).

    missing: the index that stands for no value; 0 when there is none, as of an id.
    """

    name: str
    kind: Literal["categorical", "multi", "numeric"]
    size: int
    missing: int = 0


@dataclass(frozen=True)
class FieldTable:
    """Field values of all indices.

    columns, by field name: categorical and numeric int32 [R]; multi int32 [R, M], an item's distinct known
    values first and 0 after them, M that of the item with most.
    """

    fields: tuple[EncodedField, ...]
    columns: dict[str, np.ndarray]


def item_table(tables: Tables, vocabularies: Vocabularies) -> FieldTable:
    """The fields of every item in the vocabulary, `item_id` first; titles are not in it."""
    size = vocabularies.items.size
    rows = vocabularies.items.encode(tables.items()["item_id"])
    own = EncodedField("item_id", "categorical", size)
    table = _field_table("item", tables.schema.item_fields, tables.items(), rows, vocabularies)
    columns = {"item_id": np.arange(size, dtype=np.int32), **table.columns}
    return FieldTable((own, *table.fields), columns)


def user_table(tables: Tables, vocabularies: Vocabularies) -> FieldTable:
    """The fields of every user in the vocabulary. Without `user_id`: no tower embeds a user's id."""
    users = tables.users()
    rows = vocabularies.users.encode(users["user_id"])
    return _field_table("user", tables.schema.user_fields, users, rows, vocabularies)


def titles(tables: Tables, vocabularies: Vocabularies) -> list[str]:
    """The title of every index, "" for the unknown item and for those without one."""
    result = [MISSING] * vocabularies.items.size
    items = tables.items()
    for field in tables.schema.item_fields:
        if field.kind == "title":
            for row, title in zip(
                vocabularies.items.encode(items["item_id"]).tolist(), items[field.name].to_pylist(), strict=True
            ):
                result[row] = title or MISSING
            result[0] = MISSING
            break
    return result


def encode_field(
    values: pa.ChunkedArray, field: FieldSchema, side: str, vocabularies: Vocabularies
) -> tuple[EncodedField, np.ndarray]:
    """Values of one field -> indices: int32 [n], or [n, M] for a multi field."""
    if field.kind == "numeric":
        boundaries = vocabularies.boundaries[f"{side}.{field.name}"]
        missing = len(boundaries) + 2
        return EncodedField(field.name, "numeric", missing + 1, missing), encode_numeric(values, boundaries)
    fields = vocabularies.item_fields if side == "item" else vocabularies.user_fields
    vocabulary = fields[field.name]
    missing = vocabulary.index(MISSING)
    if field.kind == "multi":
        return EncodedField(field.name, "multi", vocabulary.size, missing), encode_multi(values, vocabulary)
    filled = pc.fill_null(values.cast(pa.string()), MISSING)
    return EncodedField(field.name, "categorical", vocabulary.size, missing), vocabulary.encode(filled)


def encode_numeric(values: pa.ChunkedArray, boundaries: np.ndarray) -> np.ndarray:
    """Numbers [n] -> bucket indices int32 [n]: 1 + the boundaries at or below; missing = len(boundaries) + 2."""
    numbers = values.cast(pa.float64()).to_numpy()
    buckets = 1 + np.searchsorted(boundaries, numbers, side="right")
    return np.where(np.isnan(numbers), len(boundaries) + 2, buckets).astype(np.int32)


def encode_multi(values: pa.ChunkedArray, vocabulary: Vocabulary) -> np.ndarray:
    """Lists of strings [n] -> indices int32 [n, M >= 1].

    A list is a set: repeated values count once, in the order of their first appearance. Unknown values are
    left out. An empty list is the value "".
    """
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    flat = pc.list_flatten(values)
    named = pc.fill_null(pc.not_equal(flat, MISSING), False).to_numpy(zero_copy_only=False)
    code, row = vocabulary.encode(flat)[named], row[named]
    empty = np.setdiff1d(np.arange(len(lengths)), row)
    code = np.concatenate((code, np.full(len(empty), vocabulary.index(MISSING), dtype=np.int32)))
    row = np.concatenate((row, empty))
    known = code > 0
    code, row = code[known], row[known]
    first = np.sort(np.unique(row.astype(np.int64) * vocabulary.size + code, return_index=True)[1])
    code, row = code[first], row[first]
    order = np.argsort(row, kind="stable")
    return _pad(row[order], code[order], len(lengths))


def _pad(row: np.ndarray, code: np.ndarray, rows: int) -> np.ndarray:
    """Codes grouped by ascending row -> int32 [rows, M], 0 after each row's codes."""
    lengths = np.bincount(row, minlength=rows)
    starts = np.cumsum(lengths) - lengths
    padded = np.zeros((rows, max(1, lengths.max(initial=0))), dtype=np.int32)
    padded[row, np.arange(len(row)) - starts[row]] = code
    return padded


def _field_table(
    side: str, fields: Iterable[FieldSchema], table: pa.Table, rows: np.ndarray, vocabularies: Vocabularies
) -> FieldTable:
    """Scatter the encoded rows of a table to their indices; indices without a row have every value missing."""
    size = vocabularies.items.size if side == "item" else vocabularies.users.size
    encoded, columns = [], {}
    for field in fields:
        if field.kind == "title":
            continue
        kind, values = encode_field(table[field.name], field, side, vocabularies)
        _, missing = encode_field(pa.chunked_array([pa.nulls(1, field.arrow_type)]), field, side, vocabularies)
        column = np.zeros((size, *values.shape[1:]), dtype=np.int32)
        if missing.ndim == 2:
            column[:, 0] = missing[0, 0]
        else:
            column[:] = missing[0]
        column[rows] = values
        column[0] = 0
        encoded.append(kind)
        columns[field.name] = column
    return FieldTable(tuple(encoded), columns)
