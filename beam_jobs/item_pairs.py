"""Pairs of items that share a session: sessions are sent to the partitions of their items, which count pairs there.

A session goes to each partition as a whole, once: that is fewer bytes than its pairs have, and no pair is made, sorted
or stored but where it is counted. numpy and Arrow only, no Beam.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_jobs import blocks

PAIRS_AT_ONCE = 8_000_000
"""Bounds the memory of a worker: a session of 200 items has 40,000 pairs, counted both ways round."""


@dataclass(frozen=True)
class Places:
    """A permutation of the items in which each partition, items of equal remainder, has places next to each other."""

    partitions: int
    width: int

    @classmethod
    def of(cls, items: int, partitions: int) -> "Places":
        """Of the items 0 .. items - 1."""
        return cls(partitions, -(-items // partitions))

    @property
    def size(self) -> int:
        """All places are below."""
        return self.partitions * self.width

    def place(self, items: np.ndarray) -> np.ndarray:
        """The places of some items, int64."""
        return items % self.partitions * np.int64(self.width) + items // self.partitions

    def item(self, places: np.ndarray) -> np.ndarray:
        """The items at some places."""
        partition = places // self.width
        return (places - partition * self.width) * self.partitions + partition


def sent(
    session: np.ndarray, places: np.ndarray, of: Places, weights: np.ndarray | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """(partition, the sessions that hold an item of it), of those that have any. Sessions of one item have no pairs.

    session: int64 [n], ascending; places: int64 [n], different ones within a session; weights: float64, by session
    number. A table has a row per session: places, list of int32, and its weight where there are weights.
    """
    starts = blocks.run_starts(session)
    lengths = np.diff(starts, append=len(session))
    several = np.repeat(lengths > 1, lengths)
    partition = (places // of.width).astype(np.uint16)[several]
    run = np.repeat(np.arange(len(starts)), lengths)[several]
    order = np.argsort(partition, kind="stable")
    partition, run = partition[order], run[order]
    new = np.append(True, (partition[1:] != partition[:-1]) | (run[1:] != run[:-1]))[: len(run)]
    partition, run = partition[new], run[new]
    bounds = np.searchsorted(partition, np.arange(of.partitions + 1))
    ends = np.append(starts, len(session)).astype(np.int32)
    columns = {"places": pa.ListArray.from_arrays(ends, places.astype(np.int32))}
    if weights is not None:
        columns["weight"] = pa.array(weights[session[starts]])
    sessions = pa.table(columns)
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        yield number, sessions.take(pa.array(run[bounds[number] : bounds[number + 1]]))


def count_pairs(
    tables: Iterable[pa.Table], partition: int, of: Places, at_once: int = PAIRS_AT_ONCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every two items that share a session, of which the first is one of the partition's, and in how many they do.

    tables: of `sent`.
    Returns: (place, place of the other, sum of the sessions' weights), ascending by both: integers [n], integers [n],
      int64 or float64 [n]. An item with itself is there too, with 0: to leave it out would copy all others.
    """
    counted = _Sums()
    for table in tables:
        for keys, weights in _keys(table, partition, of, at_once):
            counted.add(keys, weights)
            if counted.rows >= at_once:
                counted.reduce()
    keys, sums = counted.reduce()
    mine, other = blocks.divided(keys, of.size)
    mine += partition * of.width
    sums[mine == other] = 0
    return mine, other, sums


class _Sums:
    """Keys, and what they weigh, of which those received since the last `reduce` may repeat."""

    def __init__(self) -> None:
        self.rows = 0
        self._new: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._sums: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, keys: np.ndarray, weights: np.ndarray | None) -> None:
        self._new.append((keys, weights))
        self.rows += len(keys)

    def reduce(self) -> tuple[np.ndarray, np.ndarray]:
        """Add up what is there: different keys, ascending, and the sum of each."""
        if self._new:
            keys = np.concatenate([keys for keys, _ in self._new])
            given = [weights for _, weights in self._new if weights is not None]
            sums = blocks.sum_by_key(keys, np.concatenate(given) if given else None)
            if self._sums is not None:
                sums = blocks.sum_by_key(*(np.concatenate(both) for both in zip(self._sums, sums, strict=True)))
            self._sums, self._new, self.rows = sums, [], 0
        return self._sums or (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _keys(table: pa.Table, partition: int, of: Places, at_once: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """(place in the partition) * of.size + place of each item of the session, itself too; and the session's weight.

    Of as many of the partition's items at a time as have `at_once` keys.
    """
    lists, first = table["places"].combine_chunks(), partition * of.width
    places, lengths = lists.flatten().to_numpy(), lists.value_lengths().to_numpy()
    rows = np.flatnonzero((places >= first) & (places < first + of.width))
    session = np.repeat(np.arange(len(lengths)), lengths)[rows]
    starts, lengths = (np.cumsum(lengths) - lengths)[session], lengths[session]
    weights = table["weight"].to_numpy()[session] if "weight" in table.column_names else None
    # numpy sorts numbers of 32 bits twice as fast, and most catalogues have few enough items for them.
    places = places.astype(np.uint32 if of.width * of.size < 2**32 else np.int64)
    mine = (places[rows] - first) * of.size
    chunks = blocks.run_starts(np.cumsum(lengths) // at_once)
    for start, stop in zip(chunks, np.append(chunks, len(rows))[1:], strict=True):
        some = lengths[start:stop]
        ends = np.cumsum(some)
        other = np.repeat(starts[start:stop] - (ends - some), some)
        other += np.arange(ends[-1])
        keys = np.repeat(mine[start:stop], some)
        keys += places[other]
        yield keys, None if weights is None else np.repeat(weights[start:stop], some)
