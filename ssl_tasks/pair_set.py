"""A set of pairs of items that is asked for many pairs a step, of which nearly none are in it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from towers.keras import tf

SPREAD = np.int64(-7046029254386353131)
"""2^64 divided by the golden ratio, odd: its products have well-mixed high bits (Fibonacci hashing, Knuth 1998)."""


class PairSet:
    """Ordered pairs of item indices.

    A table of bits, eight to sixteen for each pair, says of most pairs that they are not in the set; for the others,
    one in eight or fewer, the pairs are searched. A search alone reads a list of millions from memory twenty times.

    Args:
      first, second: int [P], the pairs, in any order. rows: the indices are below it.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray, rows: int) -> None:
        self._rows = rows
        keys = np.sort(first.astype(np.int64) * rows + second)
        self._bits = max(3, int(8 * len(keys)).bit_length())
        marks = np.zeros(1 << self._bits, bool)
        marks[_buckets(keys, self._bits, np.right_shift)] = True
        self._keys, self._marks = tf.constant(keys), tf.constant(np.packbits(marks, bitorder="little"))

    def contains(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """int32 [n, 1] or [n, m] and [n, m] -> bool [n, m]."""
        wanted = tf.cast(first, tf.int64) * self._rows + tf.cast(second, tf.int64)
        bucket = _buckets(wanted, self._bits, tf.bitwise.right_shift)
        byte = tf.gather(self._marks, tf.bitwise.right_shift(bucket, 3))
        marked = tf.bitwise.right_shift(byte, tf.cast(bucket & 7, tf.uint8)) & 1 > 0
        places = tf.where(marked)  # (h, 2)
        return tf.tensor_scatter_nd_update(marked, places, self._found(tf.gather_nd(wanted, places)))

    def _found(self, wanted: tf.Tensor) -> tf.Tensor:
        place = tf.minimum(tf.searchsorted(self._keys, wanted), tf.size(self._keys) - 1)
        return tf.equal(tf.gather(self._keys, place), wanted)


def _buckets(keys: Any, bits: int, shift: Callable[[Any, int], Any]) -> Any:
    """Of int64 keys, of NumPy or TensorFlow, the highest bits of their products with SPREAD: 0 .. 2^bits - 1."""
    return shift(keys * SPREAD, 64 - bits) & ((1 << bits) - 1)
