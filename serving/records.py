"""What a bundle knows of its items and users: ids, titles, field values, histories; all of it mapped, not read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import RequestError, nearest
from serving.allowed import kind_of
from serving.errors import NotFoundError
from serving.filters import Kind
from serving.ids import Ids

FIELD = "field."
"""Prefix of a field's column, so that no field name can collide with the other columns."""
Locate = Callable[[str], Path]
"""The name of a file in a bundle -> where it is."""


def read_columns(path: Path) -> dict[str, pa.Array]:
    """The columns of an Arrow file of one batch, mapped into memory."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return {name: table[name].chunk(0) for name in table.column_names}


def map_array(path: Path) -> np.ndarray:
    """A .npy file mapped into memory. A plain array, for NumPy is slow with its own kind of mapped ones."""
    return np.asarray(np.load(path, mmap_mode="r"))


def fields_of(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """The field columns of a records file, by field name."""
    return {name.removeprefix(FIELD): values for name, values in columns.items() if name.startswith(FIELD)}


@dataclass(frozen=True)
class Items:
    """The items in index order. `titles` holds "" where there is none; `fields` holds raw values.

    counts: int64 [R], the train events of each.
    """

    ids: Ids
    titles: pa.Array
    counts: np.ndarray
    fields: dict[str, pa.Array]

    @classmethod
    def read(cls, file: Locate) -> "Items":
        """Map the files of the items."""
        columns = read_columns(file("items.arrow"))
        ids = Ids(columns["item_id"], map_array(file("item_hashes.npy")), map_array(file("item_order.npy")))
        return cls(ids, columns["title"], columns["count"].to_numpy(), fields_of(columns))

    def __len__(self) -> int:
        return len(self.titles)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each field, for filters."""
        return {name: kind_of(column) for name, column in self.fields.items()}

    def index(self, item_id: str) -> int:
        """Raises NotFoundError when the item is unknown."""
        index = self.ids.index(item_id)
        if index == 0:
            raise NotFoundError(f"item {item_id!r} is not in this bundle")
        return index

    def split(self, item_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Ids [n] -> the indices int32 of the known ones in order, and the unknown ones."""
        if not item_ids:
            return np.empty(0, np.int32), []
        indices = self.ids.encode(item_ids)
        if indices.all():
            return indices, []
        unknown = [item_id for item_id, index in zip(item_ids, indices.tolist(), strict=True) if index == 0]
        return indices[indices > 0], unknown

    def check_fields(self, names: Sequence[str]) -> None:
        """Raises RequestError naming the first that is no field of the items."""
        for name in names:
            if name not in self.fields:
                known = sorted(self.fields)
                raise RequestError(f"unknown item field {name!r}.{nearest(name, known)} The fields are {known}")

    def describe(self, indices: np.ndarray, fields: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Indices [n] -> for each item its id, title (None without one) and, when asked, the named fields."""
        rows = pa.array(np.asarray(indices, dtype=np.int64) - 1)
        ids = self.ids.values.take(rows).to_pylist()
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

    encoded: int32 [U, W], the fields the tower reads as it takes them, see UserEncoder.columns; None in version 1.
    offsets: int64 [U + 1]; items: int32 item indices. User u's history, oldest first, is
    items[offsets[u - 1] : offsets[u]].
    """

    ids: Ids
    fields: dict[str, pa.Array]
    encoded: np.ndarray | None
    offsets: np.ndarray
    items: np.ndarray

    @classmethod
    def read(cls, file: Locate) -> "Users":
        """Map the files of the users."""
        columns = read_columns(file("users.arrow"))
        ids = Ids(columns["user_id"], map_array(file("user_hashes.npy")), map_array(file("user_order.npy")))
        return cls(ids, fields_of(columns), map_array(file("user_inputs.npy")), *read_histories(file))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def index(self, user_id: str) -> int:
        """Raises NotFoundError when the user is unknown."""
        index = self.ids.index(user_id)
        if index == 0:
            raise NotFoundError(f"user {user_id!r} is not in this bundle. Cure: give `history` or `features`")
        return index

    def history(self, index: int) -> np.ndarray:
        """int32 [n], the user's known items, oldest first."""
        return self.items[self.offsets[index - 1] : self.offsets[index]]

    def features(self, index: int) -> dict[str, Any]:
        """The user's raw field values."""
        return {name: column[index - 1].as_py() for name, column in self.fields.items()}


def read_histories(file: Locate) -> tuple[np.ndarray, np.ndarray]:
    """The offsets and items of `Users`, mapped."""
    return map_array(file("history_offsets.npy")), map_array(file("history_items.npy"))
