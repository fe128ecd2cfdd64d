"""Events as Parquet parts: of the whole log, or of each UTC date."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.progress import bar
from pipeline.tables import EVENTS, WHOLE_LOG

ROW_GROUP = 1 << 18
PART_ROWS = 16 * ROW_GROUP
HELD_BYTES = 128 << 20
"""Events of all days held in memory before they are put aside, by day, in a file."""
DAY_SECONDS = 86_400


def day_folder(folder: Path, day: str) -> Path:
    return folder / f"date={day}"


class Parts:
    """Events in the order they come, as parts of at most PART_ROWS rows in row groups of ROW_GROUP rows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._buffer: list[pa.Table] = []
        self._buffered = self._written = self._parts = 0
        self._part: pq.ParquetWriter | None = None

    def add(self, events: pa.Table) -> None:
        self._buffer.append(events)
        self._buffered += events.num_rows
        while self._buffered >= ROW_GROUP:
            self._write_group(ROW_GROUP)

    def finish(self) -> None:
        """Write what is left."""
        if self._buffered:
            self._write_group(self._buffered)
        self.close()

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables([EVENTS.empty_table(), *self._buffer])
        if self._part is None or self._written % PART_ROWS == 0:
            self.close()
            self._part = pq.ParquetWriter(self._folder / f"part-{self._parts:05d}.parquet", EVENTS)
            self._parts += 1
        self._part.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
        self._written += rows
        self._buffer, self._buffered = [table.slice(rows)], table.num_rows - rows


class WholeLog(Parts):
    """All events in the parts of one folder, `date=all`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(day_folder(folder, WHOLE_LOG))


class Days:
    """Events of any dates in any order, as the parts of each UTC date: a folder `date=2024-01-31` a day.

    The parts of a date depend on its own events and their order alone, so that an event more on one day leaves the
    bytes of all others as they were. About twice HELD_BYTES are held in memory, however many events or days there are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer: list[pa.Table] = []
        self._bytes = 0
        self._aside = _Aside(folder / ".aside.arrow")

    def add(self, events: pa.Table) -> None:
        self._buffer.append(events)
        self._bytes += events.nbytes
        if self._bytes >= HELD_BYTES:
            for day, of_day in self._take():
                self._aside.add(day, of_day)

    def finish(self) -> None:
        """Write the parts of every day."""
        held = dict(self._take())
        days = sorted({*self._aside.days, *held})
        for day in bar(days, desc=f"events of {len(days)} days", unit="day", delay=1.0):
            parts = Parts(day_folder(self._folder, str(np.datetime64(day, "D"))))
            for events in self._aside.read(day):
                parts.add(events)
            if day in held:
                parts.add(held[day])
            parts.finish()
        self.close()

    def close(self) -> None:
        self._aside.remove()

    def _take(self) -> Iterator[tuple[int, pa.Table]]:
        """Empty the buffer: (day since 1970, its events in their order), the days ascending."""
        table = pa.concat_tables([EVENTS.empty_table(), *self._buffer]).combine_chunks()
        self._buffer, self._bytes = [], 0
        days = table["timestamp"].to_numpy() // DAY_SECONDS
        if np.any(days[1:] < days[:-1]):
            order = np.argsort(days, kind="stable")
            table, days = table.take(pa.array(order)), days[order]
        present, starts = np.unique(days, return_index=True)
        for day, start, stop in zip(present.tolist(), starts, np.append(starts, len(days))[1:], strict=True):
            yield day, table.slice(start, stop - start)


class _Aside:
    """Events of many days waiting in one Arrow file, in a record batch or more a day. First all `add`, then `read`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._batches = 0
        self.days: dict[int, list[int]] = {}

    def add(self, day: int, events: pa.Table) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._path, EVENTS, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        for batch in events.to_batches():
            self._writer.write_batch(batch)
            self.days.setdefault(day, []).append(self._batches)
            self._batches += 1

    def read(self, day: int) -> Iterator[pa.Table]:
        """The events of a day, in the order they were added."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._reader = pa.ipc.open_file(pa.OSFile(str(self._path)))
        if self._reader is not None:
            for number in self.days.get(day, ()):
                yield pa.Table.from_batches([self._reader.get_batch(number)])

    def remove(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._reader = None
        self._path.unlink(missing_ok=True)
