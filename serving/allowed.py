"""The items a filter allows, as a bitmap over the rows of the index; evaluated once, then kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.filters import And, Filter, In, Kind, Not, Or, Range

CAPACITY = 256 << 20
"""Bytes of bitmaps and row lists kept, those of filters and those of their parts."""
GATHER_SHARE = 0.15
"""Up to this share of the catalogue, picking the allowed vectors costs less than scoring all of them."""


@dataclass(frozen=True)
class Allowed:
    """The rows of an index that may be returned.

    bits: uint8 [ceil(N / 8)], row r is bit r % 8 (lowest first) of byte r // 8. size: N. count: rows allowed.
    few: int32 [count], the rows, ascending, when they are at most GATHER_SHARE of all; else None.
    """

    bits: np.ndarray
    size: int
    count: int
    few: np.ndarray | None

    @classmethod
    def of(cls, bits: np.ndarray, size: int) -> "Allowed":
        """Takes bits of which those beyond row N - 1 are 0."""
        count = int(np.bitwise_count(bits).sum())
        few = _rows(bits, size).astype(np.int32) if count <= GATHER_SHARE * size else None
        return cls(bits, size, count, few)

    @classmethod
    def everything(cls, size: int) -> "Allowed":
        """All of `size` rows."""
        return cls.of(np.packbits(np.ones(size, bool), bitorder="little"), size)

    @property
    def share(self) -> float:
        """count / N."""
        return self.count / self.size

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes + (0 if self.few is None else self.few.nbytes)

    def rows(self) -> np.ndarray:
        """int [count], ascending."""
        return _rows(self.bits, self.size) if self.few is None else self.few

    def contains(self, rows: np.ndarray) -> np.ndarray:
        """int [n], each in 0 .. N - 1 -> bool [n]."""
        return (self.bits[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)

    def without(self, rows: np.ndarray) -> "Allowed":
        """The allowed rows that are not among `rows`, int [n]."""
        bits = self.bits.copy()
        np.bitwise_and.at(bits, rows >> 3, ~np.left_shift(1, rows & 7).astype(np.uint8))
        return Allowed.of(bits, self.size)


def _rows(bits: np.ndarray, size: int) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little"))


class AllowedRows:
    """Filter -> Allowed, over the items of one bundle. Safe to call from several threads.

    Args:
      columns: the raw values of each field, of R items: strings or a dictionary of them (categorical), lists of
        either (multi), float64 (numeric). Null is a missing value.
      items: int [N], which of the R items each row of the index is.
    """

    def __init__(self, columns: Mapping[str, pa.Array], items: np.ndarray, capacity: int = CAPACITY) -> None:
        self._values = columns
        self._columns: dict[str, Column] = {}
        self._items, self._size = items, len(items)
        self._capacity, self._bytes = capacity, 0
        self._kept: OrderedDict[Filter, Allowed] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, condition: Filter) -> Allowed:
        """The rows whose item fulfils the filter, as kept or evaluated now."""
        with self._lock:
            kept = self._kept.get(condition)
            if kept is not None:
                self._kept.move_to_end(condition)
                return kept
        found = Allowed.of(self._evaluate(condition), self._size)
        with self._lock:
            if condition not in self._kept:  # two threads may have asked at once
                self._kept[condition] = found
                self._bytes += found.nbytes
            while self._bytes > self._capacity:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found

    def _evaluate(self, condition: Filter) -> np.ndarray:
        if isinstance(condition, Not):
            return self._pack(np.ones(self._size, bool)) & ~self(condition.part).bits
        if isinstance(condition, And | Or):
            join = np.bitwise_and if isinstance(condition, And) else np.bitwise_or
            return join.reduce([self(part).bits for part in condition.parts])
        if condition.field not in self._columns:  # most fields are never asked for
            self._columns[condition.field] = make_column(self._values[condition.field])
        return self._pack(self._columns[condition.field](condition)[self._items])

    def _pack(self, mask: np.ndarray) -> np.ndarray:
        return np.packbits(mask, bitorder="little")


Column = Callable[[In | Range], np.ndarray]
"""A condition on one field -> bool [R], which items fulfil it."""


def kind_of(column: pa.Array) -> Kind:
    """The kind of a field by the type of its values."""
    if pa.types.is_list(column.type):
        return "multi"
    return "numeric" if pa.types.is_floating(column.type) else "categorical"


def make_column(values: pa.Array) -> Column:
    """What evaluates the conditions on a field with these values, one an item."""
    kind = kind_of(values)
    if kind == "numeric":
        return Numbers(pc.fill_null(values, np.nan).to_numpy())
    if kind == "categorical":
        return Strings.of(values, np.arange(len(values)), len(values))
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    return Strings.of(values.flatten(), np.repeat(np.arange(len(values), dtype=np.int32), lengths), len(values))


@dataclass(frozen=True)
class Numbers:
    """A numeric field: float64 [R], NaN where missing."""

    values: np.ndarray

    def __call__(self, condition: In | Range) -> np.ndarray:
        if isinstance(condition, Range):
            return (self.values >= condition.low) & (self.values <= condition.high)
        wanted = np.array([np.nan if value is None else value for value in condition.values], dtype=np.float64)
        matches = np.isin(self.values, wanted)  # NaN equals nothing
        return matches | np.isnan(self.values) if None in condition.values else matches


@dataclass(frozen=True)
class Strings:
    """A categorical or multi field of R items: the distinct values, and M of them given to items.

    codes: int32 [M], positions in `values`. items: int [M], ascending, the item that has each; an item that is not
    there has no value.
    """

    values: pa.Array
    codes: np.ndarray
    items: np.ndarray
    size: int

    @classmethod
    def of(cls, values: pa.Array, items: np.ndarray, size: int) -> "Strings":
        """Values [M], strings or a dictionary of them; null and "" are no value."""
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        empty = pc.equal(encoded.dictionary, "").to_numpy(zero_copy_only=False)
        codes = pc.fill_null(encoded.indices, -1).to_numpy()
        given = codes >= 0
        if empty.any():
            given &= ~empty[codes]
        if not given.all():
            codes, items = codes[given], items[given]
        return cls(encoded.dictionary, codes, items, size)

    def __call__(self, condition: In | Range) -> np.ndarray:
        assert isinstance(condition, In)  # parse_filter refuses ranges of strings
        named = pa.array([value for value in condition.values if value is not None], self.values.type)
        chosen = np.asarray(pc.is_in(self.values, value_set=named))
        matches = np.zeros(self.size, bool)
        matches[self.items[chosen[self.codes]]] = True
        if None in condition.values:
            matches |= self._missing
        return matches

    @cached_property
    def _missing(self) -> np.ndarray:
        missing = np.ones(self.size, bool)
        missing[self.items] = False
        return missing
