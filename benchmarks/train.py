"""Training speed beside TFRS, keras-rs and LibRecommender, as the catalogue grows.

    python benchmarks/train.py --check
    python benchmarks/train.py --items 100k --towers mean --repeats 1

All train the same two-tower (embeddings of 64, towers 128-64-64, unit vectors, in-batch softmax with logQ at a
temperature of 0.1, batch 4096, float32) on the same clicks, each in a process and an environment of its own, in turn,
so many times as `--repeats` says, one side's catalogues right behind each other. Figures are medians; where there is a
target, of the ratios within each turn. The clock starts after the first steps: no start-up, no compilation. `mean`
averages the last 20 items, `ican` is a transformer over them. LibRecommender has neither and embeds the user's id.
Ours starts as `twotower train` does, with a malloc of its choice. All are measured with Adam and with Adagrad, which
the examples of TFRS and keras-rs use; the targets compare the faster of ours with the fastest peer.

Then, of ours alone: the reading of batches without a model, and the step with all SSL tasks against the step without,
on items with four fields. `--check` exits 1 where a target is missed.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, product
from pathlib import Path

import numpy as np
from tqdm import tqdm

# In front of this file's own folder, so that `benchmarks` is the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.click_logs import zipf
from benchmarks.environment import Environment
from benchmarks.measure import ROOT
from benchmarks.train_task import TrainTask

OURS = "ours"
PINS = {
    "tfrs": ["tensorflow==2.21.*", "tf-keras==2.21.*", "tensorflow-recommenders==0.7.7"],
    "keras_rs": ["tensorflow==2.21.*", "jax==0.10.*", "keras-rs==0.4.0"],
    "librecommender": [
        *("LibRecommender==1.5.2", "tensorflow==2.21.*", "tf-keras==2.21.*", "torch==2.15.*"),
        *("pandas==3.1.*", "scipy==1.17.*", "scikit-learn==1.9.*", "tqdm==4.70.*"),  # it does not ask for them
    ],
}
ENVIRONMENTS = {name: Environment(ROOT / "work" / "train_peers" / name, pins) for name, pins in PINS.items()}
FLAT, INPUT, TASKS = "largest catalogue to smallest", "reading to training", "all SSL tasks to none, in time"
TARGETS = {
    "100,000 items, to the best peer": (">=", 1.5),
    "1,000,000 items, to the best peer": (">=", 3.0),
    FLAT: (">=", 0.8),
    INPUT: (">=", 5.0),
    TASKS: ("<=", 1.6),
}
"""Ratios of examples per second, but for TASKS."""
CLICKS = 4_000_000


@dataclass(frozen=True)
class Run:
    """A side on a task. wall and cpu: seconds per million examples, of the steps; peak: bytes, of the whole process."""

    side: str
    task: TrainTask
    wall: float
    cpu: float
    peak: int

    @property
    def speed(self) -> float:
        """Examples per second."""
        return 1e6 / self.wall


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=count, nargs="+", default=[100_000, 1_000_000, 5_000_000])
    parser.add_argument("--towers", nargs="+", choices=["mean", "ican"], default=["mean", "ican"])
    parser.add_argument("--peers", nargs="*", choices=list(PINS), default=list(PINS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of training, per run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    for name in arguments.peers:
        ENVIRONMENTS[name].install()
    folder = ROOT / "work" / "train"
    tasks = list(compared(arguments, folder)) + list(own(arguments, folder))
    turns = [[run(side, task, folder) for side, task in tqdm(tasks, desc="runs")] for _ in range(arguments.repeats)]
    medians = [median(each) for each in zip(*turns, strict=True)]
    print_table(medians)
    seen = ratios(turns)
    met = [report(*key, values) for key, values in seen.items()]
    rows = [{"side": r.side, **asdict(r.task), "wall": r.wall, "cpu": r.cpu, "peak": r.peak} for r in medians]
    for row in rows:
        del row["log"]
    figures = {f"{tower}: {what}": values for (tower, what), values in seen.items()}
    print(json.dumps({"seconds_per_million": rows, "ratios": figures, "met": all(met)}))
    return 1 if arguments.check and not all(met) else 0


def count(text: str) -> int:
    """`100k` or `5M` as a number."""
    return int(float(text.replace("k", "e3").replace("M", "e6")))


def compared(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, TrainTask]]:
    """Every side on every task that it can do."""
    logs = {items: str(write_log(folder, items)) for items in sorted(arguments.items)}
    for tower, optimizer, side in product(arguments.towers, ("adam", "adagrad"), (OURS, *arguments.peers)):
        if side != "librecommender" or (tower, optimizer) == ("mean", "adam"):
            for items, log in logs.items():
                yield side, TrainTask(items, tower, optimizer, arguments.seconds, log)


def own(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, TrainTask]]:
    """What is measured of ours alone, on the smallest catalogue."""
    items = min(arguments.items)
    log = str(write_log(folder, items))
    for tower in arguments.towers:
        task = TrainTask(items, tower, "adam", arguments.seconds, log)
        yield OURS, replace(task, input_only=True)
        yield OURS, replace(task, fields=True)
        yield OURS, replace(task, fields=True, tasks=True)


def write_log(folder: Path, items: int) -> Path:
    """The clicks on a catalogue, popularity after Zipf, as .npy; written once."""
    path = folder / f"log-{items}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, (1 + zipf(np.random.default_rng(1), items, CLICKS)).astype(np.int32))
    return path


def run(side: str, task: TrainTask, folder: Path) -> Run:
    """Train once."""
    path = folder / "task.json"
    path.write_text(json.dumps(asdict(task)), encoding="utf-8")
    python = sys.executable if side == OURS else ENVIRONMENTS[side].python
    printed, cost = measure.run([python, "-m", f"benchmarks.train_{side}", path])
    figures = json.loads(printed.splitlines()[-1])
    millions = figures["examples"] / 1e6
    return Run(side, task, figures["wall"] / millions, figures["cpu"] / millions, cost.peak)


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    wall, cpu, peak = (statistics.median(getattr(r, name) for r in runs) for name in ("wall", "cpu", "peak"))
    return replace(runs[0], wall=wall, cpu=cpu, peak=int(peak))


def print_table(runs: list[Run]) -> None:
    """One line per side and task."""
    print(f"{'items':>9} {'tower':6} {'optimizer':9} {'side':15} {'examples/s':>10} {'CPU s/1M':>9} {'peak MB':>8}")
    for r in runs:
        task = r.task
        side = r.side + (" reading" if task.input_only else " + SSL" if task.tasks else " + fields" * task.fields)
        line = f"{task.items:>9,} {task.tower:6} {task.optimizer:9} {side:15}"
        print(f"{line} {r.speed:>10,.0f} {r.cpu:>9.1f} {r.peak / 1e6:>8,.0f}")


def ratios(turns: list[list[Run]]) -> dict[tuple[str, str], list[float]]:
    """By tower, and what of TARGETS these runs can show: the ratio in each turn."""
    seen: dict[tuple[str, str], list[float]] = {}
    for runs in turns:
        for tower in dict.fromkeys(r.task.tower for r in runs):
            here = [r for r in runs if r.task.tower == tower]
            for what, ratio in chain(to_peers(here), to_itself(here)):
                seen.setdefault((tower, what), []).append(ratio)
    return seen


def to_peers(runs: list[Run]) -> Iterator[tuple[str, float]]:
    """The faster of ours to the best peer, by the number of items."""
    plain = [r for r in runs if not (r.task.fields or r.task.input_only)]
    for items in sorted({r.task.items for r in plain}):
        here = [r for r in plain if r.task.items == items]
        what, rivals = f"{items:,} items, to the best peer", [r.speed for r in here if r.side != OURS]
        if rivals and what in TARGETS:
            yield what, max(r.speed for r in here if r.side == OURS) / max(rivals)


def to_itself(runs: list[Run]) -> Iterator[tuple[str, float]]:
    """Ours to ours."""
    mine = [r for r in runs if r.side == OURS and r.task.optimizer == "adam"]
    plain = sorted((r for r in mine if not (r.task.fields or r.task.input_only)), key=lambda r: r.task.items)
    reading = next(r for r in mine if r.task.input_only)
    fields, tasks = (next(r for r in mine if r.task.fields and r.task.tasks == on) for on in (False, True))
    yield FLAT, plain[-1].speed / plain[0].speed
    yield INPUT, reading.speed / plain[0].speed
    yield TASKS, tasks.wall / fields.wall


def report(tower: str, what: str, values: list[float]) -> bool:
    """Print the ratios of all turns and their median. Returns whether the target is met."""
    figure, (sign, bound) = statistics.median(values), TARGETS[what]
    met = figure >= bound if sign == ">=" else figure <= bound
    each = ", ".join(f"{ratio:.2f}" for ratio in values)
    print(f"{tower}: {what}: {figure:.2f} ({each}), target {sign} {bound:g}{'' if met else ', missed'}")
    return met


if __name__ == "__main__":
    sys.exit(main())
