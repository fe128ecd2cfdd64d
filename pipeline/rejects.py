"""Where rows that cannot be imported go: set aside in a readable file and counted by reason.

Every record of a source file ends as exactly one of kept, rejected (bad) or filtered (fine, but not wanted);
`Account` holds one file to that.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from pipeline.outcome import Outcome

HEADER = ("file", "line", "reason", "content")
MAX_CONTENT = 2000
"""Characters of a row kept in the rejects file; file and line lead to the rest."""


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
        self._stream = path.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        self._writer = csv.writer(self._stream)
        self._writer.writerow(HEADER)

    def add(self, file: str, rows: Iterable[tuple[int, str, str]]) -> None:
        """Set aside (line, reason, content) rows of `file`."""
        for line, reason, content in rows:
            shown = content if len(content) <= MAX_CONTENT else content[:MAX_CONTENT] + "..."
            self._writer.writerow((file, line, reason, shown))

    def copy(self, path: Path, file: str | None = None) -> None:
        """Append the rows of another rejects file; those of a file that has another name today under that name."""
        with path.open(encoding="utf-8", newline="") as stream:
            rows = islice(csv.reader(stream), 1, None)
            self._writer.writerows((file or name, *rest) for name, *rest in rows)

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
        self.notes: dict[str, np.ndarray] = {}

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

    def note(self, rows: np.ndarray, what: str) -> None:
        """Note something about the rows where `rows` (bool [n]) that does not speak against them."""
        if rows.any():
            self.notes[what] = self.notes.get(what, False) | rows

    def rejected(self) -> list[tuple[int, str]]:
        """(row, reason), in row order."""
        return [(row, self._reasons[self._rejected[row]]) for row in np.flatnonzero(~self.good).tolist()]

    def filtered(self) -> Counter[str]:
        codes = self._filtered[self.good & (self._filtered > 0)]
        return Counter(
            {self._filters[code]: int(n) for code, n in zip(*np.unique(codes, return_counts=True), strict=True)}
        )

    def noted(self) -> Counter[str]:
        """Of the rows kept, how many carry each note."""
        return +Counter({what: int(rows[self.kept].sum()) for what, rows in self.notes.items()})


class Account:
    """Holds the records of one file to their outcome, and sets the rejected ones aside."""

    def __init__(self, file: str, rejects: Rejects) -> None:
        self.outcome = Outcome(file)
        self._rejects = rejects

    @property
    def file(self) -> str:
        return self.outcome.file

    def reject(self, rows: list[tuple[int, str, str]]) -> None:
        """Set aside (line, reason, content) rows that never became part of a block."""
        self.outcome.reject(rows)
        self._rejects.add(self.file, rows)

    def skip_blank_lines(self, lines: int) -> None:
        self.outcome.filtered["blank_lines"] += lines

    def settle(self, block: Block, sieve: Sieve) -> np.ndarray:
        """Book the verdict on a block; return the rows to keep, int64 [m]."""
        verdicts = sieve.rejected()
        if verdicts:
            rows = np.array([row for row, _ in verdicts], dtype=np.int64)
            reasons = [reason for _, reason in verdicts]
            self.reject(list(zip(block.lines[rows].tolist(), reasons, block.content(rows), strict=True)))
        self.outcome.filtered.update(sieve.filtered())
        self.outcome.noted.update(sieve.noted())
        kept = sieve.kept
        self.outcome.kept += len(kept)
        return kept
