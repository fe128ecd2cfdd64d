"""The events of one source file as an artefact of their own.

Its folder is named by the content of the file and the settings it is read by, so that a file is read once, however
often it is imported; its name and place may change.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts import Draft, Spec, create
from pipeline.config_source import Partition
from pipeline.event_parts import Days, WholeLog
from pipeline.rejects import Account, Rejects, Sieve
from pipeline.storage import Location
from pipeline.tables import EVENTS

ITEM_COUNTS = "item_counts.parquet"
"""How many events each item has: item_id string, events int64."""
NEGATIVES = "negatives.parquet"
"""The events that were rated too low, of a source with `keep_negatives`: columns of EVENTS."""
_ITEM_COUNTS = pa.schema([("item_id", pa.string()), ("events", pa.int64())])


class EventsWriter:
    """Takes the events of one source file, in any number of pieces. Use `write_events`.

    `account` keeps the file's accounts; `ignored_columns` names the columns that an importer left out. `limit` is the
    Unix second after which events are in the future.
    """

    def __init__(self, draft: Draft, file: str, partition: Partition, limit: int, keep_negatives: bool = False) -> None:
        self._draft = draft
        self._rejects = Rejects(draft.dir / "rejects.csv")
        self._parts = Days(draft.dir) if partition == "day" else WholeLog(draft.dir)
        self._limit = limit
        self._items = _ItemCounts()
        self.keep_negatives = keep_negatives
        self._negatives = pq.ParquetWriter(draft.dir / NEGATIVES, EVENTS) if keep_negatives else None
        self._events = 0
        self._before: int | None = None
        self._earliest_future: int | None = None
        self._span: tuple[int, int] | None = None
        self.account = Account(file, self._rejects)
        self.ignored_columns: list[str] = []

    def add(self, events: pa.Table) -> None:
        """Append events (columns of EVENTS)."""
        if events.num_rows == 0:
            return
        times = events["timestamp"].to_numpy()
        first, last = self._span or (int(times[0]), int(times[0]))
        self._span = min(first, int(times.min())), max(last, int(times.max()))
        earlier = np.diff(times, prepend=times[0] if self._before is None else self._before) < 0
        self.account.outcome.noted["out_of_order"] += int(earlier.sum())
        self._before = int(times[-1])
        self._events += events.num_rows
        self._items.add(events["item_id"])
        self._parts.add(events.cast(EVENTS))

    def add_negatives(self, events: pa.Table) -> None:
        """Put events (columns of EVENTS) aside as negatives. Only with `keep_negatives`."""
        if self._negatives is not None and events.num_rows:
            self._negatives.write_table(events)

    def reject_future(self, times: pa.Array, sieve: Sieve) -> None:
        """Reject events, int64 [n] Unix seconds, that are later than the limit: `timestamp_in_the_future`."""
        seconds = times.to_numpy()
        future = (seconds > self._limit) & sieve.good
        if future.any():
            earliest = int(seconds[future].min())
            self._earliest_future = min(earliest, self._earliest_future or earliest)
            sieve.reject(future, "timestamp_in_the_future")

    def finish(self) -> None:
        """Write what is held, and the counts."""
        self._parts.finish()
        self._close()
        pq.write_table(self._items.total(), self._draft.dir / ITEM_COUNTS)
        first, last = self._span or (None, None)
        self._draft.counts |= {
            "events": self._events,
            "first_event": first,
            "last_event": last,
            "earliest_future": self._earliest_future,
            "outcome": self.account.outcome.as_json(),
            "ignored_columns": self.ignored_columns,
        }

    def _close(self) -> None:
        self._parts.close()
        if self._negatives is not None:
            self._negatives.close()

    def __enter__(self) -> "EventsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._rejects.__exit__(kind, error, trace)


class _ItemCounts:
    """Counts events by item; holds at most a few times the distinct items."""

    def __init__(self) -> None:
        self._counts = _ITEM_COUNTS.empty_table()
        self._pieces: list[pa.Table] = []
        self._rows = 0

    def add(self, items: pa.ChunkedArray) -> None:
        counted = pc.value_counts(items)
        self._pieces.append(pa.table([counted.field(0), counted.field(1)], schema=_ITEM_COUNTS))
        self._rows += len(counted)
        if self._rows > self._counts.num_rows + (1 << 20):
            self.total()

    def total(self) -> pa.Table:
        """The counts so far, by item id."""
        table = pa.concat_tables([self._counts, *self._pieces])
        summed = table.group_by("item_id").aggregate([("events", "sum")]).rename_columns(_ITEM_COUNTS.names)
        self._counts, self._pieces, self._rows = summed.sort_by("item_id").combine_chunks(), [], 0
        return self._counts


def events_folder(spec: Spec) -> str:
    """The name of the folder for events read to `spec`: 16 hex digits."""
    return hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def write_events(
    path: Location, spec: Spec, file: str, partition: Partition, limit: int, keep_negatives: bool = False
) -> Iterator[EventsWriter]:
    """Write the events artefact of `file`; it becomes visible when the block ends well."""
    with create(path, spec) as draft, EventsWriter(draft, file, partition, limit, keep_negatives) as writer:
        yield writer
        writer.finish()
