"""What became of the records of a source file, and whether that is good enough to go on."""

from collections import Counter
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from pipeline.errors import InputError

FIRST_REJECTS = 5
"""Rejected rows an error shows; all of them are in the rejects file."""
SHOWN = 200
"""Characters of a row an error shows."""

_CURES = {
    "wrong_number_of_columns": "check that the file is of this format and its delimiter the right one",
    "undecodable_bytes": "convert the file to UTF-8",
    "not_a_json_object": "write one JSON object a line",
    "unparsable_timestamp": "give its strptime format (`source.table.time_format`) if it is not Unix time or ISO 8601",
    "timestamp_out_of_range": "give the unit of the numbers (`source.table.time_unit`: s, ms, us or ns)",
}


@dataclass
class Outcome:
    """The records of one file by what became of them: each was kept, rejected (bad) or filtered (fine, not wanted).

    rejected, filtered: counts by reason. noted: counts of what is worth knowing about kept ones.
    first_rejects: (line, reason, content) of the first rejected rows, by line.
    """

    file: str
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    first_rejects: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def records(self) -> int:
        return self.kept + self.rejected.total() + self.filtered.total()

    def reject(self, rows: list[tuple[int, str, str]]) -> None:
        """Count (line, reason, content) rows that are set aside."""
        self.rejected.update(reason for _, reason, _ in rows)
        first = nsmallest(FIRST_REJECTS, [*self.first_rejects, *rows], key=lambda row: row[0])
        self.first_rejects = [(line, reason, content[:SHOWN]) for line, reason, content in first]

    def check(self) -> None:
        """Raise InputError when the file had no usable record at all: it is not what it is said to be."""
        if self.kept or self.filtered.total() > self.filtered["blank_lines"]:
            return
        if not self.first_rejects:
            raise InputError(f"{self.file} holds no records. Cure: name the file that holds the data")
        line, reason, content = self.first_rejects[0]
        cure = _CURES.get(reason, "check that the columns are the ones the configuration names")
        raise InputError(
            f"{self.file}:{line}: none of its {self.rejected.total()} records is usable; the first has `{reason}`: "
            f"{content!r}. Cure: {cure}"
        )

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "file"}

    @classmethod
    def from_json(cls, file: str, data: dict[str, Any]) -> "Outcome":
        counted = {name: Counter(data[name]) for name in ("rejected", "filtered", "noted")}
        return cls(file, data["kept"], **counted, first_rejects=[tuple(row) for row in data["first_rejects"]])
