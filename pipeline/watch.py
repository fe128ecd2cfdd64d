"""What people watch while a run trains: curves for TensorBoard, and the items' vectors for its projector.

<run>/tensorboard/
    loss/*          total, retrieval and each task: the mean since the point before
    norm/*          of all gradients together; the mean length of a row of each embedding table
    validation/*    HIT@N, alignment, uniformity of users and of items
    speed/*, learning_rate
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline import local_disk, storage
from pipeline.catalogue import Vocabularies, titles
from pipeline.config import Config
from pipeline.event_file import EventFile, write_projector
from pipeline.run_folder import unless_unreachable
from pipeline.storage import Location
from pipeline.tables import Tables
from towers.keras import tf
from towers.two_tower import TwoTower

FOLDER = "tensorboard"
NORM_ROWS = 100_000
"""Rows of a table behind its mean length, evenly spaced."""


class Watch:
    """Records one run. directory: local; target: the folder it is shown in, the same unless that is remote."""

    def __init__(self, config: Config, model: TwoTower, directory: Path, target: Location) -> None:
        self.config, self.model, self.directory, self.target = config, model, directory, target
        self.events = EventFile(directory)
        self.before = self._sums()
        self.loss_sum, self.steps = 0.0, 0

    def step(self, number: int, loss: float, gradient_norm: float) -> None:
        """Note a step, the `number`th of the run; every `watch.every_steps` of them become a point."""
        self.loss_sum, self.steps = self.loss_sum + loss, self.steps + 1
        if number % self.config.watch.every_steps:
            return
        now = self._sums()
        values = {"loss/total": self.loss_sum / self.steps, "norm/gradients": gradient_norm}
        for name, (total, count) in now.items():
            total_before, count_before = self.before[name] if self.before[name][1] <= count else (0.0, 0.0)
            values[f"loss/{name}"] = (total - total_before) / max(count - count_before, 1.0)
        values["learning_rate"] = _number(self.model.optimizer.learning_rate)
        self.events.scalars(values, number)
        self.before, self.loss_sum, self.steps = now, 0.0, 0

    def epoch(self, number: int, examples_per_second: float, validation: Mapping[str, float]) -> None:
        """The points of a complete epoch, at its last step."""
        values = {f"validation/{name}": value for name, value in validation.items()}
        for side, embeddings in (("", self.model.item_embeddings), ("user.", self.model.user_tower.user_embeddings)):
            for field in embeddings.fields:
                table = embeddings.tables[field.name]
                rows = table[:: max(1, table.shape[0] // NORM_ROWS)].numpy()
                values[f"norm/{side}{field.name}"] = float(np.linalg.norm(rows, axis=1).mean())
        self.events.scalars({**values, "speed/examples_per_second": examples_per_second}, number)
        self._publish()

    def end(self, counts: np.ndarray) -> None:
        """Show the most frequent items in the projector. counts: int64 [R], train events per item."""
        shown = np.argsort(-counts[1:], kind="stable")[: self.config.watch.projector_items].astype(np.int32) + 1
        if len(shown):
            vocabularies = Vocabularies.read(self.config.prepared_dir("vocabularies"))
            names = titles(Tables.read(self.config.tables_dir), vocabularies)
            labels = {
                "title": [names[item] for item in shown],
                "item_id": vocabularies.items.decode(shown).to_pylist(),
                "train_events": [str(count) for count in counts[shown]],
            }
            write_projector(self.directory, self.model.item_vectors(shown), labels)
        self._publish()

    def _sums(self) -> dict[str, tuple[float, float]]:
        return {name: (_number(mean.total), _number(mean.count)) for name, mean in self.model.means.items()}

    def _publish(self) -> None:
        if not isinstance(self.target, Path):
            with unless_unreachable(f"{self.target} is as of before"):
                for name in storage.sizes(self.directory):
                    storage.put(self.directory / name, self.target / name)


def _number(variable: tf.Variable) -> float:
    """The value of a scalar; a variable of several devices, or of mixed precision, is no number of Python's."""
    return float(tf.identity(variable))


@contextmanager
def watching(config: Config, model: TwoTower, resumed: bool) -> Iterator[Watch | None]:
    """Record the run of the block, or nothing without `watch.tensorboard`. A new run drops what another recorded."""
    target = config.run_dir / FOLDER
    if not resumed:
        storage.remove(target)
    if not config.watch.tensorboard:
        yield None
        return
    if isinstance(target, Path):
        target.mkdir(parents=True, exist_ok=True)
        yield from _closing(Watch(config, model, target, target))
    else:
        with local_disk.scratch() as directory:
            yield from _closing(Watch(config, model, directory, target))


def _closing(watch: Watch) -> Iterator[Watch]:
    try:
        yield watch
    finally:
        watch.events.close()
