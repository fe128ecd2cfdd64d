"""A tiny prepared log, configs on it, and ways to disturb a training run at a chosen step."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from beam_fixtures import run_through

from pipeline.artifacts import Artifact, open_artifact
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.fit import Fit
from pipeline.importers import import_source
from towers.keras import tf

SPEED = ("examples_per_second", "cpu_seconds")


def config_of(workdir: str, name: str, *overrides: str) -> Config:
    return load_config(
        None,
        [
            f"workdir={workdir}",
            f"name={name}",
            "source.demo={users: 60, items: 40, events: 500}",
            "tower={embedding_dim: 8, hidden: [12, 8], history_length: 4, history_dim: 8}",
            "train.batch_size=128",
            "train.max_epochs=2",
            "watch.tensorboard=false",
            *overrides,
        ],
    )


EAGER_DATA = "ignore:Even though the:UserWarning"
"""What tf.data says of `eagerly`, which leaves it alone."""


def eagerly() -> Iterator[None]:
    """Run steps op by op: the graph of a step takes longer to make than the few steps of these runs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def prepare_log(workdir: str) -> None:
    """Tables, vocabularies and sequences of a tiny log."""
    config = config_of(workdir, "any")
    import_source(config)
    run_through(config, "user_sequences")


@contextmanager
def at_step(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` once, after so many training steps inside the block."""
    original, done = Fit._run_step, 0

    def run_step(self: Fit, batch: dict) -> None:
        nonlocal done
        original(self, batch)
        done += 1
        if done == number:
            act()

    with patch.object(Fit, "_run_step", run_step):
        yield


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


def model_of(config: Config) -> Artifact:
    return open_artifact(config.run_dir / "model", "model", 1)


def records(config: Config) -> list[dict]:
    """The lines of metrics.jsonl, without how fast they were made."""
    lines = [json.loads(line) for line in model_of(config).file("metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]


def variables(artifact: Artifact, prefix: str) -> dict[str, np.ndarray]:
    """Every variable of a checkpoint file by name: weights, optimiser slots, means."""
    reader = tf.train.load_checkpoint(str(artifact.parts(f"{prefix}.")[0].with_name(prefix)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """The points of every curve by step."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found
