"""Draws of a training step: repeatable by seed and step, independent of each other, and of the right distribution."""

import numpy as np
import pytest
from tower_fixtures import batch, small_config, small_model, stateful_draws

from pipeline.config import TrainConfig
from towers.keras import tf
from towers.optimizers import make_optimizer
from towers.randomness import Dropout, at_step, permutation, uniform


def draws(seed: int, step: int) -> np.ndarray:
    with at_step(seed, tf.constant(step)):
        return np.stack([uniform((4,)).numpy() for _ in range(3)])


def test_draws_repeat_by_seed_and_step_and_nothing_else():
    tf.random.set_seed(1)
    first = draws(5, 9)
    tf.random.set_seed(2)
    assert np.array_equal(draws(5, 9), first)
    assert len({draws(*pair).tobytes() for pair in ((5, 9), (5, 10), (6, 9), (9, 5))}) == 4


def test_the_draws_of_a_step_differ():
    assert len(np.unique(draws(1, 1))) == 12


def test_the_turns_of_a_loop_differ():
    @tf.function
    def looped() -> tf.Tensor:
        with at_step(1, tf.constant(1)):
            return tf.map_fn(lambda turn: uniform((), turn=turn), tf.range(50), fn_output_signature=tf.float32)

    assert len(np.unique(looped())) == 50


def test_a_draw_within_bounds_is_uniform():
    with at_step(3, tf.constant(2)):
        found = uniform((30_000,), 2, 5, tf.int32).numpy()
    assert np.bincount(found).tolist()[2:] == pytest.approx([10_000] * 3, rel=0.03)
    assert set(found) == {2, 3, 4}


def test_a_permutation_holds_everything_once():
    with at_step(3, tf.constant(2)):
        first, second = permutation(20).numpy(), permutation(20).numpy()
    assert sorted(first) == sorted(second) == list(range(20))
    assert first.tolist() != second.tolist()


def test_dropout_keeps_the_mean_and_only_works_in_training():
    ones = tf.ones((200, 200))
    with at_step(1, tf.constant(1)):
        dropped = Dropout(0.25)(ones, training=True).numpy()
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(Dropout(0.25)(ones, training=False), ones)


def test_a_train_step_has_no_hidden_random_state():
    config = small_config("tower.dropout=0.2", "tower.history_dropout=0.3")
    model = small_model(config)
    model.compile(optimizer=make_optimizer(TrainConfig(), 10))
    step = tf.function(model.train_step)
    inputs = {name: tf.constant(values) for name, values in batch(config).items()}
    step(inputs)  # the optimiser makes its slots
    assert stateful_draws(step.get_concrete_function(inputs)) == set()
