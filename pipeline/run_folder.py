"""The folder of a run: what a person opens to see how it goes, while it goes.

<workdir>/runs/<name>/
    config.yaml         the resolved configuration
    environment.json    the code's commit, Python, and the versions of all packages; nothing of the machine
    metrics.jsonl       one line a complete epoch
    bad_batch.npz       the batch whose loss was not finite, if there was one
    trial.json          what became of it, where it was a trial of `twotower tune`
    tensorboard/        event files (pipeline/watch.py)
    checkpoint/         what `--resume` goes on from (pipeline/checkpoints.py)
    model/              the finished model
"""

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline import storage
from pipeline.artifacts import code_version, open_artifact
from pipeline.config import Config
from pipeline.errors import StorageError
from pipeline.progress import say

CONFIG, ENVIRONMENT, METRICS = "config.yaml", "environment.json", "metrics.jsonl"
BAD_BATCH = "bad_batch.npz"
TRIAL = "trial.json"
VOCABULARIES = "vocabularies"


class RunFolder:
    """Writes the files above, on disk or in an object store, each as a whole."""

    def __init__(self, config: Config) -> None:
        self.config, self.path = config, config.run_dir

    def begin(self) -> None:
        """Say what is being run, and where it differs from others. What a run before it could not train on goes."""
        storage.remove(self.path / BAD_BATCH)
        for name, text in self._described().items():
            self._write(name, text)

    def keep_vocabularies(self, directory: Path) -> None:
        """Keep beside the weights what their rows stand for: the names of items and field values, not of users."""
        prepared = open_artifact(self.config.prepared_dir("vocabularies"), "vocabularies", 1)
        (directory / VOCABULARIES).mkdir()
        for file in [prepared.file("items.parquet"), *prepared.parts("item."), *prepared.parts("user.")]:
            shutil.copyfile(file, directory / VOCABULARIES / file.name)

    def end(self, directory: Path) -> None:
        """Keep the description in the folder of the finished model too, which is never changed."""
        for name, text in self._described().items():
            (directory / name).write_text(text, encoding="utf-8")

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Replace metrics.jsonl."""
        with unless_unreachable(f"{METRICS} is as of before"):
            self._write(METRICS, metrics_lines(records))

    def note_trial(self, study: str, number: int, state: str) -> None:
        """Say what became of the run as a trial of a study."""
        self._write(TRIAL, json.dumps({"study": study, "number": number, "state": state}))

    def save_batch(self, batch: Mapping[str, np.ndarray]) -> None:
        """Keep a batch that cannot be trained on."""

        def write(name: str) -> None:
            with open(name, "wb") as stream:  # given a name, numpy would append its own ending
                np.savez_compressed(stream, allow_pickle=False, **batch)

        storage.write_part(self.path / BAD_BATCH, write)

    def _described(self) -> dict[str, str]:
        return {
            CONFIG: yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False),
            ENVIRONMENT: json.dumps(environment(), indent=1),
        }

    def _write(self, name: str, text: str) -> None:
        if isinstance(self.path, Path):
            self.path.mkdir(parents=True, exist_ok=True)
        storage.replace_text(self.path / name, text)


@contextmanager
def unless_unreachable(what: str) -> Iterator[None]:
    """Say what is not written while an object store cannot be reached, and go on: no epoch is worth less for it."""
    try:
        yield
    except StorageError as error:
        say(f"{what}: {error}")


@cache
def environment() -> dict[str, Any]:
    """What code a run is made by: equal on every machine with the same packages."""
    # What an interrupted installation has left behind has no name.
    named = {each.metadata["Name"]: each for each in distributions()}
    packages = {name: each.version for name, each in named.items() if name}
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
    }


def metrics_lines(records: list[dict[str, Any]]) -> str:
    """One JSON line a record."""
    return "".join(json.dumps(record) + "\n" for record in records)
