"""Events as columns of codes: those of one day as they are coded, and those of complete users as jobs read them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_jobs import blocks
from pipeline.config import SplitConfig
from pipeline.split import cut, order_events

STRINGS = ["user_id", "item_id"]


def in_order(table: pa.Table) -> pa.Table:
    """Sort events by user (in the order of the dictionary), then timestamp, then tie breaker.

    table: user_id and item_id dictionary-encoded, timestamp int64 (Unix seconds).
    """
    users, user_ids = blocks.dictionary(table["user_id"])
    items, item_ids = blocks.dictionary(table["item_id"])

    def ids(rows: np.ndarray) -> tuple[list[str], list[str]]:
        return user_ids.take(pa.array(users[rows])).to_pylist(), item_ids.take(pa.array(items[rows])).to_pylist()

    return table.take(pa.array(order_events(users, table["timestamp"].to_numpy(), ids)))


def repeats(table: pa.Table) -> np.ndarray:
    """bool [n]: which of some ordered events equal the one before in user, item and timestamp."""
    columns = [blocks.dictionary(table[name])[0] for name in STRINGS] + [table["timestamp"].to_numpy()]
    equal = np.ones(max(0, len(table) - 1), dtype=bool)
    for column in columns:
        equal &= column[1:] == column[:-1]
    return np.concatenate(([False], equal))[: len(table)]


@dataclass(frozen=True)
class UserEvents:
    """The events of complete users, user after user, each user's in order.

    user_ids: strings [U]; user u owns the rows offsets[u] .. offsets[u + 1], offsets int64 [U + 1].
    items: int32 [n], codes of the window's items; timestamps: int64 [n], Unix seconds.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray

    @classmethod
    def nothing(cls) -> "UserEvents":
        """No user."""
        return cls(pa.array([], pa.string()), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """Events of each user: int64 [U]."""
        return np.diff(self.offsets)

    def select(self, users: np.ndarray) -> "UserEvents":
        """The users at these places (int [V]), in that order."""
        if np.array_equal(users, np.arange(len(self.user_ids))):
            return self
        lengths = self.lengths[users]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[users] - offsets[:-1], lengths)
        return UserEvents(self.user_ids.take(pa.array(users)), offsets, self.items[rows], self.timestamps[rows])

    def where(self, kept: np.ndarray) -> "UserEvents":
        """Only these events (bool [n]), of all users."""
        if kept.all():
            return self
        offsets = np.concatenate(([0], np.cumsum(kept)))[self.offsets]
        return UserEvents(self.user_ids, offsets, self.items[kept], self.timestamps[kept])

    def latest(self, most: int) -> "UserEvents":
        """Only the last `most` events of each user."""
        if np.all(self.lengths <= most):
            return self
        return self.where(np.arange(len(self.items)) >= np.repeat(self.offsets[1:] - most, self.lengths))

    def train_rows(self, split: SplitConfig) -> np.ndarray:
        """bool [n]: which events are train."""
        train_end, _ = cut(self.timestamps, self.offsets, split)
        return np.arange(len(self.items)) < np.repeat(self.offsets[:-1] + train_end, self.lengths)
