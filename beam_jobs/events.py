"""The event log as column blocks, cut by the hash of the user: where every job on logs begins."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs import blocks
from beam_jobs.job import count
from pipeline.config import SplitConfig
from pipeline.split import cut, order_by, order_events, time_bounds


@dataclass(frozen=True)
class Events:
    """Events in columns; strings are codes into their distinct values.

    users, items: int32 [n], codes into user_ids [U] and item_ids [I]; timestamps: int64 [n], Unix seconds.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array

    @classmethod
    def from_table(cls, table: pa.Table) -> "Events":
        """From a table whose user_id and item_id are dictionary-encoded."""
        users, user_ids = blocks.dictionary(table["user_id"])
        items, item_ids = blocks.dictionary(table["item_id"])
        return cls(users, items, table["timestamp"].to_numpy(), user_ids, item_ids)

    def select(self, rows: np.ndarray) -> "Events":
        """The events at `rows` (indices or a mask), in that order."""
        return Events(self.users[rows], self.items[rows], self.timestamps[rows], self.user_ids, self.item_ids)

    def per_user(self) -> np.ndarray:
        """Events of each user: int64 [U]."""
        return np.bincount(self.users, minlength=len(self.user_ids))

    def ordered(self, ranks: np.ndarray) -> np.ndarray:
        """The permutation that sorts by (ranks[user], timestamp, tie breaker); ranks: int [U], distinct."""
        user_ids = self.user_ids.to_numpy(zero_copy_only=False)[self.users]
        item_ids = self.item_ids.to_numpy(zero_copy_only=False)[self.items]
        return order_events(ranks[self.users], self.timestamps, user_ids, item_ids)

    def train_rows(self, split: SplitConfig) -> np.ndarray:
        """bool [n]: which events are train. The users must be complete."""
        if split.kind == "none":
            return np.ones(len(self.users), dtype=bool)
        if split.kind == "time":
            return self.timestamps < time_bounds(split)[0]
        return self._train_rows_by_order(split)

    def _train_rows_by_order(self, split: SplitConfig) -> np.ndarray:
        lengths = self.per_user()
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        since_first = self.timestamps - self.timestamps.min()  # few bits, for the packed sort
        timestamps = self.timestamps[order_by(self.users, since_first)]
        train_end, _ = cut(timestamps, offsets, split)
        # Only a tie that the cut falls into needs the (costly) tie breaker: order the events from there on.
        held = train_end < lengths
        since = np.full(len(lengths), np.iinfo(np.int64).max)
        since[held] = timestamps[(offsets[:-1] + train_end)[held]]
        late = np.flatnonzero(self.timestamps >= since[self.users])
        events = self.select(late)
        order = events.ordered(np.arange(len(lengths)))
        ends = np.cumsum(events.per_user())
        from_end = ends[events.users[order]] - np.arange(len(order))  # 1 = the user's last event
        rows = np.ones(len(self.users), dtype=bool)
        rows[late[order]] = from_end > (lengths - train_end)[events.users[order]]
        return rows


def split_by_user(source: tuple[str, int], partitions: int) -> Iterator[tuple[int, bytes]]:
    """One row group of the event log -> a block per partition; a user's events all share one partition."""
    table = blocks.read_row_group(source, strings=["user_id", "item_id"])
    count("events", len(table))
    partition = blocks.partition_of(table["user_id"].combine_chunks(), partitions)
    yield from blocks.split(table, partition, partitions)


class EventsByUser(beam.PTransform):
    """Pipeline -> (partition, blocks): the whole event log, every user complete in one partition."""

    def __init__(self, parts: Iterable[Path], partitions: int) -> None:
        super().__init__()
        self.sources = blocks.row_groups(parts)
        self.partitions = partitions

    def expand(self, pbegin: beam.Pipeline) -> beam.PCollection:
        return (
            pbegin
            | "row groups" >> beam.Create(self.sources)
            | beam.Reshuffle()
            | beam.FlatMap(split_by_user, self.partitions).with_output_types(tuple[int, bytes])
            | beam.GroupByKey()
        )
