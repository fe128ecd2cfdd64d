"""Our side of benchmarks/train.py: the pipeline's own reader, model, optimiser and training step."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import train_task
from benchmarks.train_task import BATCH, DIM, EVENTS_PER_USER, Clock, TrainTask
from pipeline.artifacts import Spec, create
from pipeline.catalogue import EncodedField, FieldTable
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.dataset import TrainDataset
from pipeline.malloc import start_with_chosen_malloc
from pipeline.sequences import UserSequences
from pipeline.train import build
from ssl_tasks.registry import TASKS, make_tasks
from ssl_tasks.task import Corpus
from towers.keras import tf
from towers.optimizers import make_optimizer
from towers.two_tower import TwoTower

KINDS = {"mean": "youtube_dnn", "ican": "ican"}
RELATED = 10
"""Near titles and co-occurring items per item."""
FIELD_SIZES = {"category": 100, "brand": 5_000, "price": 12}
"""Beside the id, where SSL tasks are measured: they need fields to mask."""


def configuration(task: TrainTask) -> Config:
    """The task as a config of the pipeline; what it does not name has its default."""
    return load_config(
        None,
        [
            f"tower={{kind: {KINDS[task.tower]}, embedding_dim: {DIM}, hidden: {list(train_task.HIDDEN)}, "
            f"history_length: {train_task.LENGTH}, history_dim: null, heads: {train_task.HEADS}}}",
            f"train={{optimizer: {task.optimizer}, learning_rate: {train_task.RATE}, batch_size: {BATCH}}}",
            # The peers correct the positive too, and know nothing of what a user clicked before.
            f"loss={{temperature: {train_task.TEMPERATURE}, logq: all, negatives: {{mask_clicked: false}}}}",
            *(f"tasks.{name}.weight={0.1 if task.tasks else 0}" for name in TASKS),
        ],
    )


def sequences(task: TrainTask) -> UserSequences:
    """The log, all of it train."""
    items = task.clicks()
    users = len(items) // EVENTS_PER_USER
    offsets = np.arange(users + 1, dtype=np.int64) * EVENTS_PER_USER
    end = np.full(users, EVENTS_PER_USER, np.int32)
    return UserSequences(np.arange(1, users + 1), offsets, items, np.arange(len(items)), end, end)


def catalogue(task: TrainTask, fields: bool) -> FieldTable:
    """The item ids, with FIELD_SIZES beside them or not."""
    rows, random = task.items + 1, np.random.default_rng(1)
    sizes = FIELD_SIZES if fields else {}
    columns = {"item_id": np.arange(rows, dtype=np.int32)}
    columns |= {name: random.integers(1, size, rows, dtype=np.int32) for name, size in sizes.items()}
    kinds = {"item_id": rows, **sizes}
    return FieldTable(tuple(EncodedField(name, "categorical", size) for name, size in kinds.items()), columns)


def corpus(items: FieldTable, folder: Path) -> Corpus:
    """Artefacts of random content for the SSL tasks."""
    random, names = np.random.default_rng(2), list(items.columns)
    rows = len(items.columns["item_id"])
    with create(folder / "mutual_information", Spec("mutual_information", 1)) as draft:
        content = {"fields": names, "matrix": random.random((len(names), len(names))).tolist()}
        (draft.dir / "mutual_information.json").write_text(json.dumps(content), encoding="utf-8")
    near = pa.array(random.integers(1, rows, rows * RELATED, dtype=np.int32))
    with create(folder / "title_neighbours", Spec("title_neighbours", 2, config={"neighbours": RELATED})) as draft:
        lists = pa.FixedSizeListArray.from_arrays(near, RELATED)
        pq.write_table(pa.table({"neighbours": lists}), draft.dir / "part-00000.parquet")
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * RELATED)
    weights = pa.ListArray.from_arrays(offsets, pa.array(random.random(rows * RELATED, dtype=np.float32)))
    pairs = {"neighbours": pa.ListArray.from_arrays(offsets, near), "weights": weights}
    with create(folder / "session_cooccurrence", Spec("session_cooccurrence", 1)) as draft:
        pq.write_table(pa.table({"item": np.arange(rows, dtype=np.int32), **pairs}), draft.dir / "part-00000.parquet")
    return Corpus(rows, items, {path.name: path for path in folder.iterdir()})


def make_model(task: TrainTask, config: Config, folder: Path) -> TwoTower:
    """The model of the task with all its variables, compiled."""
    items = catalogue(task, fields=task.fields)
    tasks = make_tasks(config.tasks, corpus(items, folder)) if task.tasks else []
    counts = np.bincount(task.clicks(), minlength=task.items + 1)
    model = TwoTower(config, items, FieldTable((), {}), counts, tasks)
    build(model)
    model.compile(optimizer=make_optimizer(config.train, 1000))
    return model


def train(task: TrainTask) -> Clock:
    """Train, or only read the batches, until the clock stops."""
    config, clock = configuration(task), Clock(task.seconds)
    dataset = TrainDataset(config, sequences(task), FieldTable((), {}), task.items + 1)
    if task.input_only:
        for batch in dataset.epoch(1):
            if not clock.step(batch["positive"].numpy):
                break
        return clock
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(task, config, Path(folder))
    step = tf.function(model.train_step, reduce_retracing=True)
    for batch in dataset.epoch(1):
        if not clock.step(step(batch)["loss"].numpy):
            break
    return clock


if __name__ == "__main__":
    start_with_chosen_malloc()  # as the command line does
    train_task.main(train)
