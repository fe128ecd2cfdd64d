"""Pairs of items that share a session, as int64 keys: counted, mirrored, and cut into partitions. numpy only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from beam_jobs import blocks
from pipeline.split import order_by

PAIRS_AT_ONCE = 2_000_000
"""Bounds the memory of a worker: a session of 200 items has 20,000 pairs."""


def pair_keys(
    session: np.ndarray, items: np.ndarray, size: int, weights: np.ndarray | None = None, at_once: int = PAIRS_AT_ONCE
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """min * size + max of every two items that share a session, and the session's weight; about `at_once` at a time.

    session: ascending; items: int [n], distinct within a session, below size; weights: by session number.
    """
    starts = blocks.run_starts(session)
    lengths = np.diff(starts, append=len(session))
    firsts = blocks.run_starts(np.cumsum(lengths * (lengths - 1) // 2) // at_once)  # first session of each chunk
    for first, stop in zip(firsts, np.append(firsts, len(starts))[1:], strict=True):
        inside = slice(starts[first], starts[first] + lengths[first:stop].sum())
        after = np.repeat(starts[first:stop] + lengths[first:stop] - 1, lengths[first:stop])
        keys, left = _chunk_keys(items[inside].astype(np.int64), after - np.arange(inside.start, inside.stop), size)
        yield keys, None if weights is None else weights[session[inside][left]]


def _chunk_keys(items: np.ndarray, after: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs at distance 1, then 2, ...: their keys, and the row of the first item of each.

    after: how many rows of its session follow each row.
    """
    keys, lefts, distance = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 1
    left = np.flatnonzero(after >= distance)
    while len(left):
        a, b = items[left], items[left + distance]
        keys.append(np.minimum(a, b) * size + np.maximum(a, b))
        lefts.append(left)
        distance += 1
        left = left[after[left] >= distance]
    return np.concatenate(keys), np.concatenate(lefts)


def mirrored(keys: np.ndarray, weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys a * size + b -> (b * size + a, weights), ascending."""
    a, b = divided(keys, size)
    keys = b * size + a
    if weights.dtype.kind != "f":
        keys, weights = blocks.sorted_columns(keys, weights)
        return keys, weights
    order = order_by(keys)
    return keys[order], weights[order]


def divided(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """np.divmod(keys, size), in a third of its time."""
    item = keys // size
    return item, keys - item * size


@dataclass(frozen=True)
class Places:
    """A permutation of the items in which each partition, items of equal remainder, has places next to each other.

    Keys of places that are in order are cut into partitions without another sort.
    """

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
