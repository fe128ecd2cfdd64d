"""Trains the same on one device and on two, in a process of its own: devices are made before TensorFlow begins.

Prints one JSON object; tests/test_two_devices.py says what must hold of it.
"""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from task_fixtures import make_corpus
from tower_fixtures import batch, counts, items, small_config, users
from train_fixtures import at_step, config_of, curves, model_of, prepare_log, send, variables

from pipeline.devices import OneDevice
from pipeline.distribute import find_devices
from pipeline.errors import TrainingInterruptedError
from pipeline.train import build, train
from ssl_tasks.registry import TASKS, make_tasks
from towers import replicas
from towers.keras import keras, tf
from towers.optimizers import make_optimizer
from towers.randomness import at_step as at_training_step
from towers.randomness import uniform
from towers.two_tower import TwoTower

DEVICES = ("train.distribute=mirrored", "train.devices=2")
EVERYTHING = (
    "tower.kind=youtube_dnn",
    "loss={negatives: {uniform: 15, queue: 40, queue_warmup: 3, hard: {count: 2}}, frequency: {source: streaming}}",
    "train.history_sampling=others",
    "train.schedule=cosine",
    "train.batch_size=53",
    "train.half_life_days=30",
)
"""Batches of an odd number of rows, and the last of an epoch smaller; all that a step draws, or remembers."""


def stopped_and_resumed(workdir: str) -> dict[str, dict[str, object]]:
    """Weights, losses and optimiser of runs that were on other devices for their first steps, beside one on one."""
    whole = config_of(workdir, "whole", *EVERYTHING)
    train(whole)
    expected, result = variables(model_of(whole), "weights"), {}
    for name, first, then in (("two-one", DEVICES, ()), ("one-two", (), DEVICES)):
        try:
            with at_step(9, send(signal.SIGTERM)):
                train(config_of(workdir, name, *EVERYTHING, *first))
        except TrainingInterruptedError:
            resumed = config_of(workdir, name, *EVERYTHING, *then, "train.unfinished=resume")
            train(resumed)
        found = variables(model_of(resumed), "weights")
        apart = difference(expected, found)
        result[name] = {"difference": apart, "variables": len(expected), "epochs": metrics(whole, resumed)}
    return result


def watched(workdir: str) -> list[str]:
    """The curves of a run on two devices in mixed precision, whose variables are no plain ones."""
    settings = ("tower.kind=youtube_dnn", "train.max_epochs=1", "train.precision=bfloat16")
    config = config_of(workdir, "watched", *settings, *DEVICES, "watch.tensorboard=true", "watch.every_steps=1")
    train(config)
    return sorted(curves(config.run_dir / "tensorboard"))


def metrics(*configs: object) -> list[list[float]]:
    lines = [model_of(config).file("metrics.jsonl").read_text().splitlines() for config in configs]
    return [[json.loads(line)["loss"] for line in run] for run in lines]


def difference(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    assert expected.keys() == found.keys()
    return max(float(np.abs(expected[name].astype(float) - found[name]).max()) for name in expected)


def all_tasks(folder: Path, devices: OneDevice) -> dict[str, object]:
    """A few steps with every SSL task and explicit negatives; one batch leaves a replica without a row."""
    tasks = {f"tasks.{name}": "{weight: 0.3, batch_size: 11}" for name in TASKS}
    tasks["tasks.semantic_level"] = "{weight: 0.3, batch_size: 11, top_k: 4}"
    settings = [f"{name}={values}" for name, values in tasks.items()]
    config = small_config(*settings, "loss.negatives.explicit=3", "train.optimizer=adagrad", "train.learning_rate=0.1")
    keras.utils.set_random_seed(5)
    with devices.scope():
        model = TwoTower(config, items(), users(), counts(), make_tasks(config.tasks, make_corpus(folder)))
        build(model)
        model.compile(optimizer=make_optimizer(config.train, 10))
        model.optimizer.build(model.trainable_variables)
        unused = {"uniform_negatives", "user_row"}
        batches = [without(batch(config, size, seed), unused) for seed, size in enumerate((7, 8, 7))]
        batches.append(without(batch(config, 7, 9), unused, rows=1))
        signature = {name: tf.TensorSpec((None, *rows.shape[1:]), rows.dtype) for name, rows in batches[0].items()}
        steps = devices.steps(model, signature)
        done = [each for fed in batches for each in steps.submit(fed, stop=False)]
        weights = {variable.name: variable.numpy() for variable in model.trainable_variables}
    return {"losses": [each.loss for each in done], "weights": weights, "means": means(model)}


def without(fed: dict[str, np.ndarray], names: set[str], rows: int | None = None) -> dict[str, tf.Tensor]:
    clicked = slice(None) if rows is None else fed["clicked_by"] < rows
    cut = {name: values[clicked if name.startswith("clicked") else slice(rows)] for name, values in fed.items()}
    return {name: tf.constant(values) for name, values in cut.items() if name not in names}


def means(model: TwoTower) -> dict[str, float]:
    return {name: float(mean.result()) for name, mean in model.means.items()}


def draws(strategy: tf.distribute.Strategy) -> dict[str, list[list[float]]]:
    """What each replica draws, of the two kinds of draws."""

    def replica(own: bool) -> tf.Tensor:
        with at_training_step(1, tf.constant(4)):
            return uniform((5,), own=own)

    def drawn(own: bool) -> list[list[float]]:
        run: Callable[[], object] = tf.function(lambda: strategy.run(replica, args=(own,)))
        return [values.numpy().tolist() for values in strategy.experimental_local_results(run())]

    return {"common": drawn(False), "own": drawn(True)}


def gathering(strategy: tf.distribute.Strategy, dtype: tf.DType) -> list[list[float]]:
    """The gradient of each replica's row of a product of all, weighted by the number of the replica."""

    def replica() -> tf.Tensor:
        number = tf.cast(replicas.index(), dtype)
        row = tf.fill((1 + replicas.index(), 2), number + 2)
        with tf.GradientTape() as tape:
            tape.watch(row)
            everything = replicas.gathered(row)  # (3, 2): 2, 3, 3
            loss = (number + 1) * tf.reduce_sum(tf.square(everything))
        return tf.cast(tape.gradient(loss, row), tf.float32)

    results = tf.function(lambda: strategy.run(replica))()
    return [each.numpy().tolist() for each in strategy.experimental_local_results(results)]


def main(folder: Path) -> None:
    two = find_devices(config_of(str(folder), "any", *DEVICES))
    tasks = [all_tasks(folder / name, devices) for name, devices in (("one", OneDevice()), ("two", two))]
    apart = difference(*(run.pop("weights") for run in tasks))
    rows = {dtype.name: gathering(two.strategy, dtype) for dtype in (tf.float32, tf.bfloat16, tf.float16)}
    found = {"draws": draws(two.strategy), "gathering": rows, "tasks": tasks, "apart": apart}
    prepare_log(str(folder))
    print(json.dumps(found | {"resumed": stopped_and_resumed(str(folder)), "watched": watched(str(folder))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
