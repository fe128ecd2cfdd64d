"""The Beam jobs beside the same work in duckdb and polars.

    python benchmarks/beam_jobs.py --check
    python benchmarks/beam_jobs.py --sizes 1M,5M,20M --check

The first runs every job from the tables to its artefact, and the same work in the peers, in turn, each in a child
process of its own. A figure is the median of `--repeats` and counts all a process costs: the start of Python (also
shown by itself), reading and writing files, strings. "Alone" is a job's own steps, given the artefacts before them. All
results must agree. The second runs every job once on logs of several sizes, cut into equally large partitions, and
shows the peak memory. `--check` exits 1 where a target is missed.

The logs are those of benchmarks/click_logs.py; peer_duckdb.py and peer_polars.py beside it hold what the peers do. All
is written under work/beam_jobs/; the peers are installed under work/peers/ when they are not.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

# In front of this file's own folder, where `beam_jobs` would be this file.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peers
from benchmarks.measure import ROOT, Cost
from benchmarks.workbench import ALONE, OURS, SIDES, Job, Run, Workbench, agree

REFERENCE = "duckdb"
COUNTED = ("day_events", "window_events", "catalogue_counts", "vocabularies")
JOBS = {
    "vocabularies": Job(COUNTED, alone=("vocabularies",), target=3),
    "user_sequences": Job((*COUNTED, "user_sequences"), alone=("user_sequences",), target=3),
    "session_cooccurrence": Job(
        (*COUNTED, "user_sequences", "session_cooccurrence"), alone=("session_cooccurrence",), target=1.3
    ),
    "mutual_information": Job(
        (*COUNTED, "joint_counts", "mutual_information"),
        alone=("catalogue_counts", "joint_counts", "mutual_information"),
        target=2,
        rows="catalogue",
        peers_alone=True,
    ),
}
SIZE = {"clicks": 5_000_000, "users": 200_000, "items": 100_000, "catalogue": 500_000, "days": 28}
MEMORY_GROWTH = 2.0
"""The peak memory on the largest log may be so many times that on the smallest."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, help="show the peak memory on logs of so many clicks, such as 1M,5M,20M")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--partition", choices=["none", "day"], default="none", help="of the log, as it is imported")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    for name, value in SIZE.items():
        parser.add_argument(f"--{name}", type=number, default=value, help=f"default: {value:,}")
    arguments = parser.parse_args(argv)
    peers.install()
    size = {name: getattr(arguments, name) for name in SIZE}
    if arguments.sizes:
        figures = memory(arguments.sizes, size)
    else:
        figures = throughput(size, arguments.partition, arguments.repeats)
    missed = [name for name, met in figures["targets"].items() if not met]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if arguments.check and missed else 0


def number(text: str) -> int:
    """5000000, 5M and 200k are numbers."""
    factor = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    return int(text.rstrip("kM")) * factor


def sizes(text: str) -> list[int]:
    """1M,5M -> [1000000, 5000000], ascending."""
    return sorted(number(part) for part in text.split(","))


def bench(clicks: int) -> Workbench:
    """The workbench for logs of so many clicks."""
    return Workbench(ROOT / "work" / "beam_jobs" / str(clicks))


# ---- throughput


def throughput(size: dict[str, int], partition: str, repeats: int) -> dict:
    """Measure every job and its peers; print the table and return the figures with the targets, each met or not."""
    runs = list(measured(size, partition, repeats))
    costs = medians(runs)
    figures = [figure(job, side, costs, size) for job, side in costs]
    print(f"\n{size['clicks']:,} clicks, {size['catalogue']:,} items in the catalogue, median of {repeats}\n")
    print(table(figures))
    targets = agreements(runs)
    for name, job in JOBS.items():
        for label in (name, name + ALONE) if job.peers_alone else (name,):
            ratio = costs[label, OURS].cpu / costs[label, REFERENCE].cpu
            targets[f"{label} <= {job.target} x {REFERENCE}'s CPU seconds"] = ratio <= job.target
    return {"size": size, "partition": partition, "repeats": repeats, "figures": figures, "targets": targets}


def measured(size: dict[str, int], partition: str, repeats: int) -> Iterator[Run]:
    """Every job by every side in turn, `repeats` times."""
    workbench = bench(size["clicks"])
    with tqdm(total=repeats * len(JOBS) * len(SIDES), unit="job") as bar:
        bar.set_description("log")
        workbench.make_inputs(size, partition)
        for _ in range(repeats):
            yield from (workbench.start_up(side) for side in SIDES)
            for name, job in JOBS.items():
                for side in SIDES:
                    bar.set_description(f"{name}, {side}")
                    yield from workbench.runs(side, name, job)
                    bar.update()


def agreements(runs: Sequence[Run]) -> dict[str, bool]:
    """Per job and side: is every result the same as that of the reference's first run?"""
    agreed = {}
    for job in JOBS:
        of_job = [run for run in runs if run.job.removesuffix(ALONE) == job]
        expected = next(run.digest for run in of_job if run.side == REFERENCE)
        for side in dict.fromkeys(run.side for run in of_job):
            same = all(agree(expected, run.digest) for run in of_job if run.side == side)
            agreed[f"{job}: {side} agrees with {REFERENCE}"] = same
    return agreed


def medians(runs: Sequence[Run]) -> dict[tuple[str, str], Cost]:
    """The median of each figure, by (job, side) in the order of the first runs."""
    return {
        key: Cost(
            *(
                statistics.median(getattr(run.cost, figure) for run in runs if (run.job, run.side) == key)
                for figure in ("wall", "cpu", "peak")
            )
        )
        for key in dict.fromkeys((run.job, run.side) for run in runs)
    }


def figure(job: str, side: str, costs: dict[tuple[str, str], Cost], size: dict[str, int]) -> dict:
    """One row of the table; None where there is nothing to say."""
    cost, reference = costs[job, side], costs.get((job, REFERENCE))
    counted = JOBS.get(job.removesuffix(ALONE))
    return {
        "job": job,
        "by": side,
        "wall": round(cost.wall, 2),
        "cpu": round(cost.cpu, 2),
        "rows_per_second": counted and round(size[counted.rows] / cost.wall),
        "peak_mb": round(cost.peak / 1e6),
        "cpu_ratio": reference and round(cost.cpu / reference.cpu, 2),
    }


def table(figures: Sequence[dict]) -> str:
    """As Markdown."""
    header = ["job", "by", "wall s", "CPU s", "rows/s", "peak MB", f"CPU / {REFERENCE}"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in figures:
        cells = ["" if cell is None else cell if isinstance(cell, str) else f"{cell:,}" for cell in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# ---- memory


def memory(clicks: Sequence[int], size: dict[str, int]) -> dict:
    """The peak memory of every job by the size of the log, which grows by days; print the table, return the figures."""
    peaks: dict[str, dict[int, int]] = {job: {} for job in JOBS}
    for n in tqdm(clicks, unit="log"):
        days = max(1, round(size["days"] * n / size["clicks"]))
        workbench = bench(n)
        workbench.make_inputs({**size, "clicks": n, "days": days}, "day")
        for name, job in JOBS.items():
            peaks[name][n] = round(workbench.from_tables(job).peak / 1e6)
    lines = [f"| peak MB | {' | '.join(f'{n:,} clicks' for n in clicks)} |", "|---" * (1 + len(clicks)) + "|"]
    lines += [f"| {job} | {' | '.join(f'{peak:,}' for peak in by_size.values())} |" for job, by_size in peaks.items()]
    print("\n".join(["", *lines]))
    targets = {
        f"{job}: peak memory on {clicks[-1]:,} clicks <= {MEMORY_GROWTH} x that on {clicks[0]:,}": (
            by_size[clicks[-1]] <= MEMORY_GROWTH * by_size[clicks[0]]
        )
        for job, by_size in peaks.items()
    }
    return {"size": size, "peak_mb": peaks, "targets": targets}


if __name__ == "__main__":
    sys.exit(main())
