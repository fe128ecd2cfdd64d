"""What XLA would make of the training step: MLPs and transformer blocks compiled by it, beside the same step without.

    python benchmarks/train_xla.py

The models and the clicks are those of benchmarks/train.py. Both train on the same few batches again and again, in turn,
so that every shape is compiled before the clock starts: a real run meets new shapes with every batch, for the number of
its distinct items differs. Pooling a history, the tables and the softmax are no operations of XLA, or of shapes that it
does not know. Times are medians over the rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

# In front of this file's own folder, so that `benchmarks` is the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import train_ours
from benchmarks.measure import ROOT
from benchmarks.train import write_log
from benchmarks.train_task import TrainTask
from pipeline.catalogue import FieldTable
from pipeline.dataset import TrainDataset
from towers.blocks import MLP, TransformerBlock
from towers.keras import tf

STEPS = 8
"""Batches of a round."""
SIDES = {"without": False, "with": True}
Step = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--towers", nargs="+", choices=["mean", "ican"], default=["mean", "ican"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    log = str(write_log(ROOT / "work" / "train", arguments.items))
    figures = {}
    for tower in arguments.towers:
        figures[tower] = compare(TrainTask(arguments.items, tower, "adam", 0.0, log), arguments.rounds)
    print(f"{'tower':6} {'XLA':8} {'first round s':>13} {'ms a step':>10} {'CPU ms':>7}")
    for tower, sides in figures.items():
        for side, of in sides.items():
            print(f"{tower:6} {side:8} {of['first']:>13.1f} {of['wall_ms']:>10.1f} {of['cpu_ms']:>7.1f}")
        print(
            f"{tower}: with XLA a step takes {sides['with']['wall_ms'] / sides['without']['wall_ms']:.2f} of the time"
        )
    print(json.dumps(figures))
    return 0


def compare(task: TrainTask, rounds: int) -> dict[str, dict[str, float]]:
    """By side: seconds of the first round, compilation included, and milliseconds a step afterwards."""
    config = train_ours.configuration(task)
    dataset = TrainDataset(config, train_ours.sequences(task), FieldTable((), {}), task.items + 1)
    batches = [
        {name: tf.constant(values) for name, values in batch.items()}
        for batch, _ in zip(dataset.batches(1), range(STEPS), strict=False)
    ]
    steps = {side: make_step(task, compiled) for side, compiled in SIDES.items()}
    first = {side: run(step, batches)[0] for side, step in steps.items()}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in tqdm(range(rounds), desc=task.tower):
        for side, step in steps.items():
            times[side].append(run(step, batches))
    return {
        side: {
            "first": first[side],
            "wall_ms": 1e3 / STEPS * statistics.median(wall for wall, _ in times[side]),
            "cpu_ms": 1e3 / STEPS * statistics.median(cpu for _, cpu in times[side]),
        }
        for side in SIDES
    }


def make_step(task: TrainTask, compiled: bool) -> Step:
    """The training step of a new model."""
    with tempfile.TemporaryDirectory() as folder:
        model = train_ours.make_model(task, train_ours.configuration(task), Path(folder))
    for layer in model.submodules if compiled else ():
        if isinstance(layer, MLP | TransformerBlock):
            setattr(layer, "call", tf.function(layer.call, jit_compile=True))  # noqa: B010
    return tf.function(model.train_step, reduce_retracing=True)


def run(step: Step, batches: list[dict[str, tf.Tensor]]) -> tuple[float, float]:
    """Wall and CPU seconds of a round."""
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        step(batch)["loss"].numpy()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    sys.exit(main())
