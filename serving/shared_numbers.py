"""Numbers that the worker processes of one server share: a small file mapped into each of them."""

import mmap
import os
import tempfile
from pathlib import Path

BYTES = 8


class SharedNumbers:
    """float64 [rows, columns], zeros at first. `row(i)` can be read and written like a list.

    Numbers are written one at a time and in one piece, so a row with one writer is always right. Rows with several
    may lose an update, and must be such that it does not matter.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        with open(path, "r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), max(rows * columns, 1) * BYTES)
        self._numbers = memoryview(self._map).cast("d")

    @staticmethod
    def make(rows: int, columns: int) -> Path:
        """Make the file; whoever asked for it removes it."""
        descriptor, name = tempfile.mkstemp(prefix="twotower-")
        os.truncate(descriptor, max(rows * columns, 1) * BYTES)
        os.close(descriptor)
        return Path(name)

    def row(self, index: int) -> "memoryview[float]":
        """One row. Raises IndexError outside."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of {self.rows}")
        return self._numbers[index * self.columns : (index + 1) * self.columns]

    def totals(self) -> list[float]:
        """The sum over rows of each column."""
        flat = self._numbers.tolist()
        return [sum(flat[column :: self.columns]) for column in range(self.columns)]
