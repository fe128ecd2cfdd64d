"""The step of a row-sparse Adam against tf.keras's dense one, as the embedding table grows.

    python benchmarks/optimizers.py --rows 100000 1000000 --check

Each step updates a table [rows, 64] with the gradient of a gather of 20,000 random rows. Both optimisers step in turn
in one process; the figures are medians. `--check` exits 1 unless the row-sparse step is at least as fast everywhere and
its time grows less than twofold from the smallest table to the largest.
"""

import argparse
import json
import statistics
import sys
import time

from tqdm import tqdm

from towers.keras import keras, tf
from towers.optimizers import RowSparseAdam

DIM, GATHERED = 64, 20_000


def stepper(optimizer: keras.optimizers.Optimizer, rows: int) -> tf.function:
    """A compiled step on a table of its own."""
    table = tf.Variable(tf.random.normal((rows, DIM)))
    optimizer.build([table])

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            places = tf.random.uniform((GATHERED,), 0, rows, tf.int32)
            loss = tf.reduce_sum(tf.square(tf.gather(table, places)))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    step()
    return step


def measure(rows: int, repeats: int) -> dict[str, float]:
    """Median milliseconds per step of each optimiser, measured alternately."""
    steps = {"dense": stepper(keras.optimizers.Adam(), rows), "row_sparse": stepper(RowSparseAdam(), rows)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(repeats), desc=f"{rows:,} rows"):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    figures = {rows: measure(rows, arguments.repeats) for rows in sorted(arguments.rows)}
    print(f"{'rows':>10} {'dense ms':>10} {'row-sparse ms':>14} {'ratio':>7}")
    for rows, each in figures.items():
        print(f"{rows:>10,} {each['dense']:>10} {each['row_sparse']:>14} {each['dense'] / each['row_sparse']:>7.2f}")
    sparse = [each["row_sparse"] for each in figures.values()]
    met = all(each["row_sparse"] <= each["dense"] for each in figures.values()) and sparse[-1] < 2 * sparse[0]
    print(json.dumps({"ms_per_step": figures, "met": met}))
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
