"""What the peers are asked to do, and what their scripts share. It runs in their environment: no library of ours."""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

THREADS = 2
"""As many as the Beam jobs have workers on one machine."""


@dataclass(frozen=True)
class Task:
    """The inputs of a job and its settings, those of the Beam jobs.

    events: the event files; items: the items file, with its fields by kind. buckets: of a numeric field. min_events is
    3 at least: every kept user has a validation and a test event. corpus: the vocabulary of items, where a job is given
    it.
    """

    events: list[str]
    items: str
    categorical: list[str]
    numeric: list[str]
    multi: list[str]
    buckets: int
    min_events: int
    gap_seconds: int
    max_session_items: int
    top_n: int
    corpus: str | None = None

    @property
    def single(self) -> list[str]:
        """Fields with one value an item, numeric ones counted by bucket."""
        return [*self.categorical, *self.numeric]


def main(jobs: Mapping[str, Callable[[Task, Path], None]]) -> None:
    """The command line of a peer: JOB, the task as a JSON file, the folder for the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=jobs)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    jobs[arguments.job](Task(**json.loads(arguments.task.read_text(encoding="utf-8"))), arguments.out)


def write_matrix(
    out: Path,
    fields: Sequence[str],
    items: int,
    entropy: Callable[[str], float],
    joint: Callable[[str, str], float],
    log_values: Callable[[str], float],
) -> None:
    """Write mutual_information.json: MI(a, b) = H(a) + H(b) - H(a, b), and MI(id, f) = H(f) - E[log |A_f|].

    log_values: of a field, the sum over items of the logarithm of how many values they have.
    """
    single = {field: entropy(field) for field in fields}
    names = ["item_id", *fields]
    matrix = [[0.0] * len(names) for _ in names]
    matrix[0][0] = math.log(items)
    for j, field in enumerate(fields, start=1):
        matrix[j][j] = single[field]
        matrix[0][j] = matrix[j][0] = max(0.0, single[field] - log_values(field) / items)
    for (i, a), (j, b) in combinations(enumerate(fields, start=1), 2):
        matrix[i][j] = matrix[j][i] = max(0.0, single[a] + single[b] - joint(a, b))
    text = json.dumps({"fields": names, "matrix": matrix})
    (out / "mutual_information.json").write_text(text, encoding="utf-8")
