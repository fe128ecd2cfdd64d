"""A set of pairs of items that is asked for many pairs a step, of which nearly none are in it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from towers.keras import tf

SPREADS = np.int64(-7046029254386353131), np.int64(-4417276706812531889)
"""2^64 divided by the golden ratio, and a prime of xxHash64, both odd: products with them have well-mixed high bits
(Fibonacci hashing, Knuth 1998)."""


class PairSet:
    """Ordered pairs of item indices.

    Two tables of bits, eight to sixteen for each pair, say of most pairs that they are not in the set: the first of
    seven in eight or more, the second of as many of those left. The others are searched, which reads a list of
    millions from memory twenty times for each.

    Args:
      first, second: int [P], the pairs, in any order. rows: the indices are below it.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray, rows: int) -> None:
        self._rows = rows
        keys = np.sort(first.astype(np.int64) * rows + second)
        self._bits = max(3, int(8 * len(keys)).bit_length())
        self._keys, self._tables = tf.constant(keys), [tf.constant(self._table(keys, spread)) for spread in SPREADS]

    def contains(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """int32 [n, 1] or [n, m] and [n, m] -> bool [n, m]."""
        wanted = tf.cast(first, tf.int64) * self._rows + tf.cast(second, tf.int64)
        places = tf.where(self._marked(wanted, 0))  # (h, 2)
        places = tf.boolean_mask(places, self._marked(tf.gather_nd(wanted, places), 1))
        none = tf.zeros_like(wanted, tf.bool)
        return tf.tensor_scatter_nd_update(none, places, self._found(tf.gather_nd(wanted, places)))

    def _table(self, keys: np.ndarray, spread: np.int64) -> np.ndarray:
        """uint8 [2^bits / 8]: a bit for each bucket, 1 where one of the keys falls into it."""
        marks = np.zeros(1 << self._bits, bool)
        marks[_buckets(keys, spread, self._bits, np.right_shift)] = True
        return np.packbits(marks, bitorder="little")

    def _marked(self, wanted: tf.Tensor, number: int) -> tf.Tensor:
        """Whether table `number` does not rule a key out: int64 -> bool, of any shape."""
        bucket = _buckets(wanted, SPREADS[number], self._bits, tf.bitwise.right_shift)
        byte = tf.gather(self._tables[number], tf.bitwise.right_shift(bucket, 3))
        return tf.bitwise.right_shift(byte, tf.cast(bucket & 7, tf.uint8)) & 1 > 0

    def _found(self, wanted: tf.Tensor) -> tf.Tensor:
        place = tf.minimum(tf.searchsorted(self._keys, wanted), tf.size(self._keys) - 1)
        return tf.equal(tf.gather(self._keys, place), wanted)


def _buckets(keys: Any, spread: np.int64, bits: int, shift: Callable[[Any, int], Any]) -> Any:
    """Of int64 keys, of NumPy or TensorFlow, the highest bits of their products with `spread`: 0 .. 2^bits - 1."""
    return shift(keys * spread, 64 - bits) & ((1 << bits) - 1)
