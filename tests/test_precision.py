"""Mixed precision: the loss and its gradient near those of float32, float32 weights, and training that gets there."""

import numpy as np
import pytest
from tower_fixtures import batch, counts, items, small_config, users

from pipeline.train import build
from towers.keras import keras, tf
from towers.optimizers import make_optimizer
from towers.precision import precision
from towers.registry import TOWERS
from towers.two_tower import TwoTower

SHORT = {"bfloat16": 0.08, "float16": 0.01}
"""What the gradient of a whole model may be off by, as a share of its norm."""
SEEDS = (1, 2, 3)
"""Of one in a few models, a ReLU's input is so near 0 that rounding puts it on the other side: the median has none."""


def model_in(name: str, *overrides: str, seed: int = 7) -> TwoTower:
    keras.utils.set_random_seed(seed)
    config = small_config(f"train.precision={name}", *overrides)
    with precision(name):
        model = TwoTower(config, items(), users(), counts())
    build(model)
    model.compile(optimizer=make_optimizer(config.train, 100))
    return model


def inputs(model: TwoTower) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in batch(model.config, size=64).items()}


def loss_and_gradient(model: TwoTower) -> tuple[float, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs(model), training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    return float(loss), np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in gradients])


@pytest.mark.parametrize("kind", sorted(TOWERS))
@pytest.mark.parametrize("short", SHORT)
def test_loss_and_gradient_are_near_those_of_float32(kind, short):
    off = []
    for seed in SEEDS:
        (loss, gradient), (expected, exact) = (
            loss_and_gradient(model_in(name, f"tower.kind={kind}", seed=seed)) for name in (short, "float32")
        )
        assert loss == pytest.approx(expected, rel=0.01)
        off.append(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))
    assert np.median(off) < SHORT[short]


@pytest.mark.parametrize("short", SHORT)
def test_training_reaches_the_loss_of_float32(short):
    def trained(name: str) -> float:
        model = model_in(name, "train.learning_rate=0.01")
        fed = inputs(model)
        return np.mean([float(model.train_step(fed)["loss"]) for _ in range(20)][-5:])

    assert trained(short) == pytest.approx(trained("float32"), rel=0.05)


@pytest.mark.parametrize("short", SHORT)
def test_weights_and_vectors_are_float32(short):
    model = model_in(short)
    assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
    assert model.item_vectors(np.arange(3, dtype=np.int32)).dtype == np.float32


def test_a_gradient_that_is_not_finite_is_skipped_in_float16():
    model = model_in("float16")
    before = [variable.numpy() for variable in model.trainable_variables]
    scale = float(model.optimizer.loss_scale)
    model.train_step(inputs(model) | {"weight": tf.fill((64,), np.float32("inf"))})
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.trainable_variables, strict=True))
    assert float(model.optimizer.loss_scale) < scale


def test_the_policy_ends_with_the_block():
    with pytest.raises(ZeroDivisionError), precision("bfloat16"):
        raise ZeroDivisionError
    assert keras.mixed_precision.global_policy().name == "float32"
