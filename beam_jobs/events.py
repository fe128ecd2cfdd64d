"""Events as columns of codes: those of one day as they are coded, and those of complete users as jobs read them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_jobs import blocks
from pipeline.config import SplitConfig
from pipeline.split import cut, order_by, order_events

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
    items: int32 [n], codes into item_ids [I]; timestamps: int64 [n], Unix seconds.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    item_ids: pa.Array

    @classmethod
    def from_days(cls, days: Iterable[pa.Table]) -> "UserEvents":
        """From tables of ordered events (see in_order), one a day, the days ascending; one table at least.

        Events of different days differ in time, so that the days need no sorting by time again.
        """
        table = pa.concat_tables(days).unify_dictionaries().combine_chunks()
        users, user_ids = blocks.dictionary(table["user_id"])
        items, item_ids = blocks.dictionary(table["item_id"])
        timestamps = table["timestamp"].to_numpy()
        if np.any(users[1:] < users[:-1]):
            order = order_by(users)
            items, timestamps = items[order], timestamps[order]
        offsets = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=len(user_ids)))))
        return cls(user_ids, offsets, items, timestamps, item_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Events of each user: int64 [U]."""
        return np.diff(self.offsets)

    def select(self, users: np.ndarray) -> "UserEvents":
        """The users at these places (int [V]), in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[users] - offsets[:-1], lengths)
        return UserEvents(
            self.user_ids.take(pa.array(users)), offsets, self.items[rows], self.timestamps[rows], self.item_ids
        )

    def latest(self, most: int) -> "UserEvents":
        """Only the last `most` events of each user."""
        if np.all(self.lengths <= most):
            return self
        kept = np.arange(len(self.items)) >= np.repeat(self.offsets[1:] - most, self.lengths)
        offsets = np.concatenate(([0], np.cumsum(np.minimum(self.lengths, most))))
        return UserEvents(self.user_ids, offsets, self.items[kept], self.timestamps[kept], self.item_ids)

    def train_rows(self, split: SplitConfig) -> np.ndarray:
        """bool [n]: which events are train."""
        train_end, _ = cut(self.timestamps, self.offsets, split)
        return np.arange(len(self.items)) < np.repeat(self.offsets[:-1] + train_end, self.lengths)
