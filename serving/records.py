"""What a bundle knows of its items and users: ids, titles, field values, histories."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RequestError, nearest
from pipeline.vocabulary import Vocabulary
from serving.allowed import kind_of
from serving.errors import NotFoundError
from serving.filters import Kind

FIELD = "field."
"""Prefix of a field's column, so that no field name can collide with the other columns."""


def read_fields(table: pa.Table) -> dict[str, pa.Array]:
    """The field columns of a records table, by field name."""
    names = [name for name in table.column_names if name.startswith(FIELD)]
    return {name.removeprefix(FIELD): table[name].combine_chunks() for name in names}


@dataclass(frozen=True)
class Items:
    """The items in index order. `titles` holds "" where there is none; `fields` holds raw values."""

    vocabulary: Vocabulary
    titles: pa.Array
    fields: dict[str, pa.Array]

    @classmethod
    def read(cls, path: Path) -> "Items":
        """Read items.parquet: item_id, title, count and the field columns, one row per item, index 1 first."""
        table = pq.read_table(path)
        return cls(_vocabulary(table, "item_id"), table["title"].combine_chunks(), read_fields(table))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each field, for filters."""
        return {name: kind_of(column) for name, column in self.fields.items()}

    def index(self, item_id: str) -> int:
        """Raises NotFoundError when the item is unknown."""
        index = self.vocabulary.index(item_id)
        if index == 0:
            raise NotFoundError(f"item {item_id!r} is not in this bundle")
        return index

    def split(self, item_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Ids [n] -> the indices int32 of the known ones in order, and the unknown ones."""
        indices = [self.vocabulary.index(item_id) for item_id in item_ids]
        unknown = [item_id for item_id, index in zip(item_ids, indices, strict=True) if index == 0]
        return np.array([index for index in indices if index], dtype=np.int32), unknown

    def check_fields(self, names: Sequence[str]) -> None:
        """Raises RequestError naming the first that is no field of the items."""
        for name in names:
            if name not in self.fields:
                known = sorted(self.fields)
                raise RequestError(f"unknown item field {name!r}.{nearest(name, known)} The fields are {known}")

    def describe(self, indices: np.ndarray, fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Indices [n] -> for each item its id, title (None without one) and, when asked, the named fields."""
        rows = pa.array(np.asarray(indices, dtype=np.int64) - 1)
        ids = self.vocabulary.values.take(rows).to_pylist()
        titles = self.titles.take(rows).to_pylist()
        records = [{"item_id": i, "title": title or None} for i, title in zip(ids, titles, strict=True)]
        if fields:
            columns = [self.fields[name].take(rows).to_pylist() for name in fields]
            for record, *values in zip(records, *columns, strict=True):
                record["fields"] = dict(zip(fields, values, strict=True))
        return records


@dataclass(frozen=True)
class Users:
    """The users in index order, with their raw field values and histories.

    offsets: int64 [U + 1]; items: int32 item indices. User u's history, oldest first, is
    items[offsets[u - 1] : offsets[u]].
    """

    vocabulary: Vocabulary
    fields: dict[str, pa.Array]
    offsets: np.ndarray
    items: np.ndarray

    @classmethod
    def read(cls, path: Path, offsets: Path, items: Path) -> "Users":
        """Read users.parquet: user_id, count and the field columns, one row per user; and map the histories."""
        table = pq.read_table(path)
        histories = np.load(offsets, mmap_mode="r"), np.load(items, mmap_mode="r")
        return cls(_vocabulary(table, "user_id"), read_fields(table), *histories)

    def index(self, user_id: str) -> int:
        """Raises NotFoundError when the user is unknown."""
        index = self.vocabulary.index(user_id)
        if index == 0:
            raise NotFoundError(f"user {user_id!r} is not in this bundle. Cure: give `history` or `features`")
        return index

    def history(self, index: int) -> np.ndarray:
        """int32 [n], the user's known items, oldest first."""
        return np.asarray(self.items[self.offsets[index - 1] : self.offsets[index]])

    def features(self, index: int) -> dict[str, Any]:
        """The user's raw field values."""
        return {name: column[index - 1].as_py() for name, column in self.fields.items()}


def _vocabulary(table: pa.Table, column: str) -> Vocabulary:
    return Vocabulary(table[column].combine_chunks().cast(pa.string()), table["count"].to_numpy())
