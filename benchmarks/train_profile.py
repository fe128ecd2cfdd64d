"""Where the training step spends its time, beside the floor counted from its FLOPs and bytes.

    python benchmarks/train_profile.py --items 1000000 --tower mean

The model and the clicks are those of benchmarks/train.py. The times of all operations of a step, by TensorFlow's
profiler, are added up by part of the model. The floor is what the products alone would take at the speed of a large
matrix product here, and what the bytes alone would take at the speed of copying one: each in CPU seconds. The bytes are
those that must move: each row of a table that the batch names with both moments of Adam, read and written, and each
activation written once and read once.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

# In front of this file's own folder, so that `benchmarks` is the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import train_ours
from benchmarks.measure import ROOT
from benchmarks.train import write_log
from benchmarks.train_task import BATCH, DIM, HIDDEN, LENGTH, TrainTask
from pipeline.catalogue import FieldTable
from pipeline.dataset import TrainDataset
from pipeline.malloc import start_with_chosen_malloc
from towers.keras import tf
from towers.precision import POLICIES, precision

STEPS = 8
PARTS = {
    "optimiser": ("Adam",),
    "softmax": ("while/", "ReduceLogSumExp"),
    "user tower": ("user_tower",),
    "item tower": ("item_tower",),
}
"""Parts of the model by what stands in the name of an operation, the first that fits; all else is the embeddings and
their gradient."""
REST = "embeddings"


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--tower", choices=["mean", "ican"], default="mean")
    parser.add_argument("--precision", choices=list(POLICIES), default="float32")
    arguments = parser.parse_args(argv)
    log = write_log(ROOT / "work" / "train", arguments.items)
    task = TrainTask(arguments.items, arguments.tower, "adam", 0.0, str(log))
    with precision(arguments.precision):
        times, cpu, batches = profile(task)
    total = sum(times.values())
    print(f"{'part':12} {'ms a step':>10} {'share':>6}")
    for part, milliseconds in times.most_common():
        print(f"{part:12} {milliseconds:>10.1f} {milliseconds / total:>6.0%}")
    flops, moved = count(task, batches)
    product, copy = speeds()
    floor = {"products": flops / product, "bytes": moved / copy}
    print(f"CPU: {1e3 * cpu:.0f} ms a step. Floor: {flops / 1e9:.1f} GFLOP at {product / 1e9:.0f} GFLOP/s are ", end="")
    print(f"{1e3 * floor['products']:.0f} ms, {moved / 1e6:.0f} MB at {copy / 1e9:.1f} GB/s are ", end="")
    print(f"{1e3 * floor['bytes']:.0f} ms.")
    print(json.dumps({"ms": dict(times), "cpu_seconds": cpu, "floor_cpu_seconds": floor}))
    return 0


def profile(task: TrainTask) -> tuple[Counter[str], float, list[dict[str, np.ndarray]]]:
    """(milliseconds a step by part, CPU seconds a step without the profiler, the batches of the steps)."""
    config = train_ours.configuration(task)
    dataset = TrainDataset(config, train_ours.sequences(task), FieldTable((), {}), task.items + 1)
    with tempfile.TemporaryDirectory() as folder:
        model = train_ours.make_model(task, config, Path(folder))
        step = tf.function(model.train_step, reduce_retracing=True)
        arrays = [batch for batch, _ in zip(dataset.batches(1), range(STEPS), strict=False)]
        batches = [{name: tf.constant(values) for name, values in batch.items()} for batch in arrays]
        _run(step, batches)  # traces, and fills the buffers
        started = time.process_time()
        _run(step, batches)
        cpu = (time.process_time() - started) / STEPS
        tf.profiler.experimental.start(folder)
        _run(step, batches)
        tf.profiler.experimental.stop()
        return _by_part(next(Path(folder).glob("**/*.xplane.pb"))), cpu, arrays


def _run(step: Callable[[dict], dict], batches: list[dict[str, tf.Tensor]]) -> None:
    for batch in batches:
        step(batch)["loss"].numpy()


def _by_part(path: Path) -> Counter[str]:
    """Milliseconds a step, from a trace: an operation's event is named `name:Type`."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # after towers.keras has imported TensorFlow

    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    times: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events if "host:CPU" in plane.name):
            name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if name and kind.isidentifier() and not name.endswith(":") and " " not in name:
                part = next((part for part, marks in PARTS.items() if any(mark in name for mark in marks)), REST)
                times[part] += event.duration_ps / 1e9 / STEPS
    return times


def count(task: TrainTask, batches: list[dict[str, np.ndarray]]) -> tuple[float, float]:
    """(FLOPs, bytes) that a step cannot do without, means over the batches."""
    positives = np.mean([len(np.unique(batch["positive"])) for batch in batches])
    rows = np.mean([len(np.union1d(batch["positive"], batch["history"])) for batch in batches])
    ican = task.tower == "ican"
    inputs = LENGTH * DIM if ican else DIM
    products = BATCH * (_mlp(inputs) + _mlp(DIM) + positives * DIM)
    activations = BATCH * (LENGTH * DIM + inputs + DIM + 2 * sum(HIDDEN))
    if ican:
        products += BATCH * LENGTH * (6 * DIM * DIM + 2 * LENGTH * DIM)  # qkv, out, inner, outer; scores and their sum
        activations += BATCH * LENGTH * (9 * DIM + 2 * 2 * LENGTH)  # and twice the scores of 2 heads
    # A product costs 2 FLOPs forward and 4 backward. A row has a weight and two moments, each read and written.
    return float(6 * products), float(4 * (2 * activations + 6 * rows * DIM))


def _mlp(inputs: int) -> int:
    return sum(a * b for a, b in pairwise((inputs, *HIDDEN)))


def speeds() -> tuple[float, float]:
    """(FLOPs, bytes copied) per CPU second."""
    square, flat = tf.random.normal((1024, 1024)), tf.random.normal((1 << 24,))
    product, copy = (tf.function(f) for f in (lambda: tf.matmul(square, square), lambda: flat + 1.0))
    return 2 * 1024**3 / _cpu_seconds(product), 2 * 4 * (1 << 24) / _cpu_seconds(copy)


def _cpu_seconds(function: Callable[[], tf.Tensor]) -> float:
    """The median of ten calls."""
    function()
    taken = []
    for _ in range(10):
        started = time.process_time()
        function().numpy()
        taken.append(time.process_time() - started)
    return float(np.median(taken))


if __name__ == "__main__":
    start_with_chosen_malloc()  # as the command line does
    sys.exit(main())
