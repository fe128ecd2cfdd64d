"""Where one job is run by one side (we or a peer), from an empty folder, in a child process that is measured."""

import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, peers
from benchmarks.measure import Cost

OURS = "beam"
SIDES = [OURS, *peers.NAMES]
START_UP = "start-up"
ALONE = ", alone"
TOLERANCE = 1e-9
"""Of numbers in digests: relative, and near 0 absolute."""

Digest = dict[str, str | list[float]]
"""What a job found, by name: a checksum, or numbers (benchmarks/job_results.py)."""


def agree(a: Digest, b: Digest) -> bool:
    """Do two digests say the same? Checksums exactly, numbers to TOLERANCE."""
    return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)


def _same(a: str | list[float], b: str | list[float]) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return len(a) == len(b) and all(
        math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for x, y in zip(a, b, strict=True)
    )


@dataclass(frozen=True)
class Job:
    """One job to measure.

    steps: of `prepare`, from the tables to the job's artefact, which the last one makes. alone: those of them that are
    measured once more by themselves, given what the others made. target: the job may cost so many times duckdb's CPU
    seconds. rows: what is counted in its rows per second, `clicks` or `catalogue`. peers_alone: the peers have an
    equivalent of the steps in `alone`, and the target holds for these as well.
    """

    steps: tuple[str, ...]
    alone: tuple[str, ...]
    target: float
    rows: str = "clicks"
    peers_alone: bool = False


@dataclass(frozen=True)
class Run:
    """What one job cost one side, and the digest of what it found (none of a start-up)."""

    job: str
    side: str
    cost: Cost
    digest: Digest


class Workbench:
    """The inputs of one size, in `folder`, and beside them a folder per side."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.task = folder, folder / "task.json"

    def make_inputs(self, size: dict[str, int], partition: str) -> None:
        """Write the log and the catalogue and import them; size, partition: options of benchmarks/click_logs.py."""
        options = [f"--{name}={value}" for name, value in {**size, "partition": partition}.items()]
        measure.run([sys.executable, "-m", "benchmarks.click_logs", self.folder, *options])

    def start_up(self, side: str) -> Run:
        """The start of Python with the libraries of a side: a part of what every other run costs."""
        python, module = (sys.executable, "pipeline.prepare") if side == OURS else (peers.PYTHON, side)
        return Run(START_UP, side, measure.run([python, "-c", f"import {module}"])[1], {})

    def runs(self, side: str, name: str, job: Job) -> Iterator[Run]:
        """The job from the tables, then its own steps alone.

        A peer comes after us: it uses our vocabulary of items, where that is given, or to tell which items are known.
        """
        yield from self._ours(name, job) if side == OURS else self._peer(side, name, job)

    def from_tables(self, job: Job) -> Cost:
        """The job, in a workdir that holds what the import made and nothing else."""
        workdir = self._empty(OURS)
        for entry in (self.folder / "imported").iterdir():
            (workdir / entry.name).symlink_to(entry)
        return self._prepare(job.steps)

    def _ours(self, name: str, job: Job) -> Iterator[Run]:
        prepared = self.folder / OURS / "prepared"
        yield Run(name, OURS, self.from_tables(job), self._digest(name, prepared))
        for step in job.alone:
            shutil.rmtree(prepared / step)
        yield Run(name + ALONE, OURS, self._prepare(job.alone), self._digest(name, prepared))

    def _prepare(self, steps: Sequence[str]) -> Cost:
        only = [argument for step in steps for argument in ("--only", step)]
        config = ["--config", str(self.folder / "config.yaml"), "--set", f"workdir={self.folder / OURS}"]
        return measure.run([sys.executable, "-m", "pipeline.cli", "prepare", *config, *only])[1]

    def _peer(self, side: str, name: str, job: Job) -> Iterator[Run]:
        yield self._ask(side, name, name, self.task)
        if job.peers_alone:
            content = json.loads(self.task.read_text(encoding="utf-8"))
            content["corpus"] = str(next((self.folder / OURS).glob("prepared/vocabularies/run=*/items.parquet")))
            task = self.folder / "task-alone.json"
            task.write_text(json.dumps(content), encoding="utf-8")
            yield self._ask(side, name, name + ALONE, task)

    def _ask(self, side: str, name: str, label: str, task: Path) -> Run:
        out = self._empty(side) / "results"
        _, cost = measure.run([peers.PYTHON, "-m", f"benchmarks.peer_{side}", name, task, out])
        return Run(label, side, cost, self._digest(name, out, "--known", self.folder / OURS / "prepared"))

    def _digest(self, job: str, *arguments: str | Path) -> Digest:
        printed, _ = measure.run([sys.executable, "-m", "benchmarks.job_results", job, *arguments])
        return json.loads(printed)

    def _empty(self, side: str) -> Path:
        folder = self.folder / side
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder
