"""Layer normalisation against its formula in float64, and its gradient against finite differences."""

import numpy as np
import pytest

from towers.keras import keras, tf
from towers.layer_norm import LayerNorm


def layer(width: int, dtype: str) -> LayerNorm:
    made = LayerNorm(epsilon=1e-6, dtype=dtype)
    made.build((None, 3, width))
    random = np.random.default_rng(0)
    made.set_weights([random.normal(size=width), random.normal(size=width)])
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5), ("mixed_bfloat16", 0.03)])
def test_it_is_the_formula(dtype, tolerance):
    x = np.random.default_rng(1).normal(2.0, 3.0, (4, 3, 8))
    made = layer(8, dtype)
    gamma, beta = (weight.astype(np.float64) for weight in made.get_weights())
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * gamma + beta
    assert made(tf.constant(x, made.compute_dtype)).numpy().astype(np.float64) == pytest.approx(expected, abs=tolerance)


def test_the_gradient_is_that_of_finite_differences():
    made, x = layer(5, "float64"), tf.constant(np.random.default_rng(2).normal(size=(2, 3, 5)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(made(x)))
    gradient = tape.gradient(loss, x).numpy()
    numeric = tf.test.compute_gradient(lambda each: tf.reduce_sum(tf.sin(made(each))), [x])[1][0].reshape(x.shape)
    assert gradient == pytest.approx(numeric, abs=1e-5)


def test_weights_are_those_of_keras():
    made, other = layer(6, "float32"), keras.layers.LayerNormalization(epsilon=1e-6)
    other.build((None, 3, 6))
    other.set_weights(made.get_weights())
    x = tf.random.stateless_normal((4, 3, 6), (1, 2))
    assert made(x).numpy() == pytest.approx(other(x).numpy(), abs=1e-5)
