"""Mixed precision: variables, sums and losses stay float32, products are taken in a shorter type."""

from collections.abc import Iterator
from contextlib import contextmanager

from towers.keras import keras, tf

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""`train.precision` -> the policy of tf.keras (Micikevicius et al. 2018, Mixed Precision Training)."""


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Layers made inside compute in this precision; their variables are float32, so a checkpoint fits any."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(POLICIES[name])
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def wide(x: tf.Tensor) -> tf.Tensor:
    """float32, for what must not be rounded: norms, logarithms of sums, losses; a float64 tensor stays as it is."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def loss_scaled(optimizer: keras.optimizers.Optimizer, name: str) -> keras.optimizers.Optimizer:
    """In float16 an optimiser that scales the loss, so that small gradients do not vanish; else the one given.

    While it looks for the scale it skips the steps whose gradient is not finite.
    """
    return keras.mixed_precision.LossScaleOptimizer(optimizer) if name == "float16" else optimizer
