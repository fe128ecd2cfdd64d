"""Where rows that cannot be imported go: set aside in a readable file and counted by reason.

Every record of a source file ends as exactly one of kept, rejected (bad) or filtered (fine, but not wanted);
`Account` holds one file to that.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError

HEADER = ("file", "line", "reason", "content")
MAX_CONTENT = 2000
"""Characters of a row kept in the rejects file; file and line lead to the rest."""

_CURES = {
    "wrong_number_of_columns": "check that the file is of this format and its delimiter the right one",
    "undecodable_bytes": "convert the file to UTF-8",
    "not_a_json_object": "write one JSON object a line",
    "unparsable_timestamp": "give its strptime format (`source.table.time_format`) if it is not Unix time or ISO 8601",
    "timestamp_out_of_range": "give the unit of the numbers (`source.table.time_unit`: s, ms, us or ns)",
}


@dataclass(frozen=True)
class Block:
    """Consecutive records of one file, by column.

    lines: int64 [n], 1-based line (row, in Parquet) on which each record starts. columns: name -> Arrow array [n].
    content: rows of the block (int64 [m]) -> their text, for people to read.
    """

    lines: np.ndarray
    columns: dict[str, pa.Array]
    content: Callable[[np.ndarray], list[str]]

    def __len__(self) -> int:
        return len(self.lines)

    def with_column(self, name: str, column: pa.Array) -> "Block":
        return replace(self, columns={**self.columns, name: column})


class Rejects:
    """The rejects file being written: CSV with the columns of HEADER. A context manager."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._stream = path.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        self._writer = csv.writer(self._stream)
        self._writer.writerow(HEADER)

    def add(self, file: str, rows: Iterable[tuple[int, str, str]]) -> None:
        """Set aside (line, reason, content) rows of `file`."""
        for line, reason, content in rows:
            self.counts[reason] += 1
            shown = content if len(content) <= MAX_CONTENT else content[:MAX_CONTENT] + "..."
            self._writer.writerow((file, line, reason, shown))

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


class Sieve:
    """The verdict on each of n rows. A row's first reason stands; a rejected row is not filtered as well."""

    def __init__(self, rows: int) -> None:
        self._reasons: list[str] = [""]
        self._filters: list[str] = [""]
        self._rejected = np.zeros(rows, dtype=np.int16)  # index into _reasons, 0 = good
        self._filtered = np.zeros(rows, dtype=np.int16)  # index into _filters

    @property
    def good(self) -> np.ndarray:
        """bool [n]: not rejected so far."""
        return self._rejected == 0

    @property
    def kept(self) -> np.ndarray:
        """int64 [m]: rows neither rejected nor filtered."""
        return np.flatnonzero(self.good & (self._filtered == 0))

    def reject(self, bad: np.ndarray, reason: str) -> None:
        """Reject the rows where `bad` (bool [n])."""
        if bad.any():
            self._reasons.append(reason)
            self._rejected[bad & self.good] = len(self._reasons) - 1

    def filter(self, unwanted: np.ndarray, why: str) -> None:
        """Leave out the rows where `unwanted` (bool [n]) without calling them bad."""
        if unwanted.any():
            self._filters.append(why)
            self._filtered[unwanted & (self._filtered == 0)] = len(self._filters) - 1

    def rejected(self) -> list[tuple[int, str]]:
        """(row, reason), in row order."""
        return [(row, self._reasons[self._rejected[row]]) for row in np.flatnonzero(~self.good).tolist()]

    def filtered(self) -> Counter[str]:
        codes = self._filtered[self.good & (self._filtered > 0)]
        return Counter(
            {self._filters[code]: int(n) for code, n in zip(*np.unique(codes, return_counts=True), strict=True)}
        )


@dataclass
class Account:
    """What became of the records of one file: records = kept + rejected + sum of filtered."""

    file: str
    rejects: Rejects
    kept: int = 0
    rejected: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    _first_reject: tuple[int, str, str] | None = None

    @property
    def records(self) -> int:
        return self.kept + self.rejected + self.filtered.total()

    def reject(self, rows: list[tuple[int, str, str]]) -> None:
        """Set aside (line, reason, content) rows that never became part of a block."""
        self.rejected += len(rows)
        self._first_reject = self._first_reject or next(iter(rows), None)
        self.rejects.add(self.file, rows)

    def settle(self, block: Block, sieve: Sieve) -> np.ndarray:
        """Book the verdict on a block; return the rows to keep, int64 [m]."""
        verdicts = sieve.rejected()
        if verdicts:
            rows = np.array([row for row, _ in verdicts], dtype=np.int64)
            reasons = [reason for _, reason in verdicts]
            self.reject(list(zip(block.lines[rows].tolist(), reasons, block.content(rows), strict=True)))
        self.filtered.update(sieve.filtered())
        kept = sieve.kept
        self.kept += len(kept)
        return kept

    def close(self) -> None:
        """Raise InputError when the file had no usable record at all: it is not what it is said to be."""
        if self.kept or self.filtered.total() > self.filtered["blank_lines"]:
            return
        if self._first_reject is None:
            raise InputError(f"{self.file} holds no records. Cure: name the file that holds the data")
        line, reason, content = self._first_reject
        cure = _CURES.get(reason, "check that the columns are the ones the configuration names")
        raise InputError(
            f"{self.file}:{line}: none of its {self.rejected} records is usable; the first has `{reason}`: "
            f"{content[:200]!r}. Cure: {cure}"
        )
