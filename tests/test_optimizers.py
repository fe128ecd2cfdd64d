"""The row-sparse optimisers against dense ones, where both must agree, and where they must not."""

import numpy as np
import pytest

from pipeline.config import TrainConfig
from towers import optimizers
from towers.keras import keras, tf
from towers.optimizers import RowSparseAdam, make_optimizer

DENSE = {"adam": keras.optimizers.Adam, "adagrad": lambda rate: keras.optimizers.Adagrad(rate, 0.1)}


def optimizer(name: str, schedule: str = "constant") -> keras.optimizers.Optimizer:
    return make_optimizer(TrainConfig(optimizer=name, learning_rate=0.1, schedule=schedule), 4)


def steps(optimizer: keras.optimizers.Optimizer, batches: list[list[int]], sparse: bool) -> np.ndarray:
    """Minimise the squares of the rows of each batch; returns the table after it."""
    table = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    for rows in batches:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(table, rows)))
        gradient = tape.gradient(loss, table)
        optimizer.apply_gradients([(gradient if sparse else tf.convert_to_tensor(gradient), table)])
    return table.numpy()


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_equals_the_dense_one_when_every_row_is_in_every_batch(name):
    batches = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0, 0, 2], [0, 1, 2, 3, 4]]
    assert steps(optimizer(name), batches, True) == pytest.approx(steps(DENSE[name](0.1), batches, False), abs=1e-5)


def test_adagrad_equals_the_dense_one_whatever_the_rows():
    batches = [[0, 1], [1, 1, 4], [2]]
    assert steps(optimizer("adagrad"), batches, True) == pytest.approx(
        steps(DENSE["adagrad"](0.1), batches, False), abs=1e-5
    )


def test_adam_equals_the_dense_one_on_rows_until_they_first_rest():
    batches = [[0, 1], [0, 1, 1], [0]]
    sparse, dense = (steps(make(0.1), batches, s) for make, s in ((RowSparseAdam, True), (DENSE["adam"], False)))
    assert sparse[0] == pytest.approx(dense[0], abs=1e-5)


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_a_row_outside_the_batch_does_not_move(name):
    once, again = (steps(optimizer(name), batches, True) for batches in ([[0, 1]], [[0, 1], [2, 3]]))
    assert np.array_equal(once[:2], again[:2])
    assert not np.array_equal(once[2:4], again[2:4])


def test_repeated_rows_count_as_their_sum():
    assert steps(RowSparseAdam(0.1), [[1, 1, 1]], True) == pytest.approx(
        steps(RowSparseAdam(0.1), [[1, 1, 1]], False), abs=1e-5
    )


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_rows_in_blocks_are_stepped_as_at_once(name, monkeypatch):
    batches = [[0, 1, 3, 4], [4, 0, 3, 4, 1], [2]]
    whole = steps(optimizer(name), batches, True)
    monkeypatch.setattr(optimizers, "BLOCK", 2)
    assert np.array_equal(steps(optimizer(name), batches, True), whole)


def test_dense_gradients_are_plain_adam():
    batches = [[0, 1, 3], [2, 2]]
    assert np.array_equal(steps(RowSparseAdam(0.1), batches, False), steps(DENSE["adam"](0.1), batches, False))


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_a_cosine_schedule_ends_at_zero(name):
    once, twice = (steps(optimizer(name, "cosine"), [[0, 1]] * count, True) for count in (4, 9))
    assert np.array_equal(once, twice)
