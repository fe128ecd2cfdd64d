"""What became of the records of a source file, and whether that is good enough to go on."""

from collections import Counter
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from pipeline.errors import InputError
from pipeline.storage import Location

FIRST_REJECTS = 5
"""Rejected rows an error shows; all of them are in the rejects file."""
SHOWN = 200
"""Characters of a row an error shows."""

_CURES = {
    "wrong_number_of_columns": "check that the file is of this format and its delimiter the right one",
    "undecodable_bytes": "convert the file to UTF-8",
    "not_a_json_object": "write one JSON object a line",
    "unparsable_timestamp": "give its strptime format (`source.table.time_format`) if it is not Unix time or ISO 8601",
    "timestamp_out_of_range": "give the unit of the numbers (`source.table.time_unit`: s, ms, us, ns or auto)",
    "timestamp_in_the_future": "correct the clock that wrote them; for old or made-up logs set `source.now`",
    "malformed_quotes": "double the quotes inside quoted values",
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

    @property
    def empty(self) -> bool:
        """Whether there is nothing usable in the file, and nothing that is just not wanted."""
        return not self.kept and self.filtered.total() == self.filtered["blank_lines"]

    def require_records(self) -> None:
        """Raise InputError when the file is empty."""
        if self.empty:
            raise InputError(f"{self.file} holds no records. Cure: name the file that holds the data")

    def check(self, max_rejected_share: float, rejects: Location) -> None:
        """Raise InputError when the share of rejected records, which lie in `rejects`, is larger than that."""
        bad, records = self.rejected.total(), self.records - self.filtered["blank_lines"]
        if bad <= max_rejected_share * records:
            return
        usable = f"none of its {bad} records is usable" if bad == records else f"{bad} of its {records} records are bad"
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.rejected.most_common(3))
        shown = "; ".join(f"line {line} {reason}: {content!r}" for line, reason, content in self.first_rejects)
        commonest = self.rejected.most_common(1)[0][0]
        cure = _CURES.get(commonest, "check that the columns are the ones the configuration names")
        raise InputError(
            f"{self.file}:{self.first_rejects[0][0]}: {usable} ({bad / records:.1%}, more than the "
            f"{max_rejected_share:.1%} of `source.max_rejected_share`): {reasons}. The first: {shown}. "
            f"All of them: {rejects}. Cure: {cure}; or raise `source.max_rejected_share`"
        )

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "file"}

    @classmethod
    def from_json(cls, file: str, data: dict[str, Any]) -> "Outcome":
        counted = {name: Counter(data[name]) for name in ("rejected", "filtered", "noted")}
        return cls(file, data["kept"], **counted, first_rejects=[tuple(row) for row in data["first_rejects"]])
