"""Small catalogues and models that the tower and task tests share."""

import numpy as np

from pipeline.catalogue import EncodedField, FieldTable
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.train import build
from towers.keras import tf
from towers.two_tower import TwoTower

ROWS = 30
USERS = 12


def items(rows: int = ROWS) -> FieldTable:
    """A categorical, a numeric and a multi field beside the id; row 0 is the unknown item."""
    rng = np.random.default_rng(0)
    tags = np.sort(rng.integers(0, 6, (rows, 3)), axis=1)[:, ::-1].astype(np.int32)
    columns = {
        "item_id": np.arange(rows, dtype=np.int32),
        "genre": rng.integers(1, 5, rows).astype(np.int32),
        "price": rng.integers(1, 4, rows).astype(np.int32),
        "tags": tags,
    }
    for column in columns.values():
        column[0] = 0
    fields = (
        EncodedField("item_id", "categorical", rows),
        EncodedField("genre", "categorical", 5),
        EncodedField("price", "numeric", 4),
        EncodedField("tags", "multi", 6),
    )
    return FieldTable(fields, columns)


def users() -> FieldTable:
    """A categorical and a multi field."""
    rng = np.random.default_rng(1)
    columns = {
        "gender": rng.integers(0, 3, USERS).astype(np.int32),
        "hobbies": rng.integers(0, 4, (USERS, 2)).astype(np.int32),
    }
    return FieldTable((EncodedField("gender", "categorical", 3), EncodedField("hobbies", "multi", 4)), columns)


def small_config(*overrides: str) -> Config:
    """Small towers; every size differs from every other, so that a swapped axis cannot pass."""
    sizes = ["tower.embedding_dim=8", "tower.hidden=[10,6]", "tower.history_length=5", "train.batch_size=16"]
    return load_config(None, [*sizes, *overrides])


def batch(config: Config, size: int = 7, seed: int = 3) -> dict[str, np.ndarray]:
    """A batch with left-padded histories, one of them empty, and whatever any kind of negatives needs.

    Users 0 and 2 clicked two items and one item beside their positives.
    """
    rng = np.random.default_rng(seed)
    history = rng.integers(1, ROWS, (size, config.tower.history_length)).astype(np.int32)
    history[0] = 0
    history[1, :3] = 0
    user = rng.integers(0, USERS, size)
    table = users()
    positive = rng.integers(1, ROWS, size).astype(np.int32)
    return {
        "history": history,
        "positive": positive,
        "weight": rng.random(size).astype(np.float32) + 0.5,
        "clicked": np.concatenate(([4, 9], positive[:3], [17], positive[3:])).astype(np.int32),
        "clicked_by": np.concatenate(([0, 0, 0, 1, 2, 2], np.arange(3, size))).astype(np.int32),
        "uniform_negatives": np.array([9, 11, 4, 17, 9, 23], np.int32),
        "explicit_negatives": np.tile(np.array([0, 12, 25], np.int32), (size, 1)),
        "user_row": np.arange(size, dtype=np.int32),
        **{field.name: table.columns[field.name][user] for field in table.fields},
    }


def counts() -> np.ndarray:
    return np.concatenate(([0], np.random.default_rng(2).integers(1, 50, ROWS - 1)))


def small_model(config: Config, tasks: tuple = ()) -> TwoTower:
    """A model with all variables of its towers created."""
    model = TwoTower(config, items(), users(), counts(), tasks)
    build(model)
    return model


def stateful_draws(function: tf.types.experimental.ConcreteFunction) -> set[str]:
    """The random ops of a traced function, and of all it calls, that keep a state nobody can save."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return {node.op for node in nodes if node.op.startswith(("Random", "TruncatedNormal", "Multinomial"))}
