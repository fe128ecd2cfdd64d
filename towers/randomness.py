"""Random numbers of a training step: a function of (seed, step), so that a resumed run draws what it would have drawn.

Inside `with at_step(seed, step)` every draw is stateless: its seed is (seed, step) folded with the number of the draw,
counted from the start of the block. No state has to be saved, and no order of execution can change a number.
Outside such a block (a task tried by itself) draws follow `tf.random.set_seed`.

On several devices a draw is the same on each, so that what is drawn for the whole batch can be shared out. Draws for a
replica's own rows (dropout) are `own`: folded with its number too, so that no two rows of a batch have the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TypeAlias

from towers import replicas
from towers.keras import keras, tf

Shape: TypeAlias = "tf.Tensor | tuple[int | tf.Tensor, ...]"

_STEP: ContextVar[tuple[tf.Tensor, Iterator[int]] | None] = ContextVar("step", default=None)


@contextmanager
def at_step(seed: int, step: tf.Tensor) -> Iterator[None]:
    """Make the draws of one training step.

    Args: seed: of the run, 0 or more. step: an integer scalar, tensor or variable; how many steps came before.
    """
    pair = tf.stack((tf.constant(seed, tf.int64), tf.cast(step, tf.int64)))
    token = _STEP.set((pair, count()))
    try:
        yield
    finally:
        _STEP.reset(token)


def next_seed(turn: tf.Tensor | int = 0, own: bool = False) -> tf.Tensor:
    """The seed of one draw, for a stateless op: int64 [2].

    Args:
      turn: the iteration, where the draw is in the body of a loop, which is traced once and run many times.
      own: whether each replica draws its own.
    """
    current = _STEP.get()
    if current is None:
        return tf.random.uniform((2,), maxval=tf.int64.max, dtype=tf.int64)
    seed, numbers = current
    folded = tf.random.experimental.stateless_fold_in(seed, tf.constant(next(numbers), tf.int64))
    if own and replicas.count() > 1:
        folded = tf.random.experimental.stateless_fold_in(folded, tf.cast(replicas.index(), tf.int64))
    return tf.random.experimental.stateless_fold_in(folded, tf.cast(turn, tf.int64))


def uniform(
    shape: Shape,
    low: float = 0,
    high: float = 1,
    dtype: tf.DType = tf.float32,
    turn: tf.Tensor | int = 0,
    own: bool = False,
) -> tf.Tensor:
    """Independent uniform draws in [low, high); integers where `dtype` is one. turn, own: see `next_seed`."""
    return tf.random.stateless_uniform(shape, next_seed(turn, own), low, high, dtype)


def permutation(size: int) -> tf.Tensor:
    """0 .. size - 1 in random order, int32 [size]."""
    return tf.random.experimental.stateless_shuffle(tf.range(size), next_seed())


class Dropout(keras.layers.Layer):
    """In training each element is 0 with probability `rate`, and else divided by 1 - rate (Srivastava et al. 2014).

    keras's own draws from an op with a hidden state, which no checkpoint holds.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, next_seed(own=True))
