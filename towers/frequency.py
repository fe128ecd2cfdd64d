"""How often an item is drawn as an in-batch negative: counted before training, or estimated while it goes on."""

import numpy as np

from pipeline.config_loss import FrequencyConfig
from towers import replicas
from towers.keras import keras, tf


class CountedFrequency(keras.layers.Layer):
    """q_j = the train events of item j over all train events.

    Args: counts: int64 [R], row 0 ignored.
    """

    def __init__(self, counts: np.ndarray) -> None:
        super().__init__(name="counted_frequency", trainable=False)
        self.table = tf.constant(share_of_events(counts))

    def probability(self, items: tf.Tensor) -> tf.Tensor:
        """int32 [n] -> the probability that one draw is that item, float32 [n]."""
        return tf.gather(self.table, items)


class StreamingFrequency(keras.layers.Layer):
    """q_j = 1 / the mean number of examples from one with item j to the next, as they stream by.

    Algorithm 2 of Yi et al. 2019, for a stream of single examples: their unit of time is a step, in which a frequent
    item comes up always or many times, and whose 1 / interval then says nothing. The first 1 / rate intervals of an
    item are averaged (the step size is 1 / k until it has fallen to the rate), so that no initial value lingers.

    Args:
      rows: R, items plus the unknown one.
      config: `rate`, `slots` and `hashes` are read. An item of its own slot shares it with none; hashed ones that
        collide are taken for more frequent than they are, so the longest interval of its `hashes` slots is the item's.
    """

    def __init__(self, rows: int, config: FrequencyConfig) -> None:
        super().__init__(name="streaming_frequency", trainable=False)
        self.rate, self.rows = config.rate, rows
        self.slots, self.hashes = (config.slots, config.hashes) if config.slots else (rows, 1)
        shape = (self.slots * self.hashes,)
        self.clock = tf.Variable(0, dtype=tf.int64, trainable=False, name="examples_seen")
        self.last = tf.Variable(tf.zeros(shape, tf.int64), trainable=False, name="last_seen")  # A of algorithm 2
        self.interval = tf.Variable(tf.zeros(shape), trainable=False, name="interval")  # B of algorithm 2
        self.seen = tf.Variable(tf.zeros(shape, tf.int64), trainable=False, name="times_seen")

    def probability(self, items: tf.Tensor) -> tf.Tensor:
        """int32 [n] -> the estimate of the probability that one draw is that item, float32 [n].

        An item never seen is taken to come as seldom as all examples so far allow, or as one of R if that is less.
        """
        slots = tf.reshape(self._slots(items), (self.hashes, -1))  # (h * n,) -> (h, n)
        unseen = tf.cast(tf.maximum(self.clock, self.rows), tf.float32)
        intervals = tf.where(tf.gather(self.seen, slots) > 0, tf.gather(self.interval, slots), unseen)
        return 1.0 / tf.reduce_max(intervals, axis=0)

    def update(self, items: tf.Tensor) -> None:
        """Take note of n examples, int32 [n], in their order."""
        slots = self._slots(items)
        times = tf.tile(self.clock + 1 + tf.range(tf.size(items, tf.int64)), (self.hashes,))
        order = tf.argsort(slots, stable=True)
        times = tf.gather(times, order)
        owner, group, repeats = tf.unique_with_counts(tf.gather(slots, order), out_idx=tf.int64)
        turn = tf.range(tf.size(group, tf.int64)) - tf.gather(tf.cumsum(repeats, exclusive=True), group)
        before = tf.where(turn == 0, tf.gather(self.last, tf.gather(owner, group)), tf.roll(times, 1, axis=0))
        seen = tf.gather(self.seen, owner)
        nth, total = tf.gather(seen, group) + turn + 1, seen + repeats
        gaps = tf.cast(times - before, tf.float32)
        weights = self._step_size(nth) * tf.exp(tf.gather(self._log_kept(total), group) - self._log_kept(nth))
        kept = tf.where(seen > 0, tf.exp(self._log_kept(total) - self._log_kept(seen)), 0.0)
        interval = kept * tf.gather(self.interval, owner)
        interval += tf.math.unsorted_segment_sum(weights * gaps, group, tf.size(owner))
        newest = tf.math.unsorted_segment_max(times, group, tf.size(owner))
        for variable, values in ((self.interval, interval), (self.last, newest), (self.seen, total)):
            replicas.scatter_update(variable, owner, values)
        replicas.assign_add(self.clock, tf.size(items, tf.int64))

    def _slots(self, items: tf.Tensor) -> tf.Tensor:
        """int [n] -> the slot of each item by each hash function, int64 [hashes * n]."""
        if self.slots == self.rows and self.hashes == 1:
            return tf.cast(items, tf.int64)
        hashed = [_mixed(tf.cast(items, tf.uint64), i + 1) % self.slots for i in range(self.hashes)]
        return tf.concat([tf.cast(h, tf.int64) + i * self.slots for i, h in enumerate(hashed)], axis=0)

    def _step_size(self, nth: tf.Tensor) -> tf.Tensor:
        """The weight of an item's nth interval when it comes, int64 [n] -> float32 [n]."""
        return tf.maximum(self.rate, 1.0 / tf.cast(nth, tf.float32))

    def _log_kept(self, nth: tf.Tensor) -> tf.Tensor:
        """log of the product of 1 - step size over the intervals 2 .. nth, but for a constant: [n] -> float32 [n]."""
        nth = tf.cast(nth, tf.float32)
        averaged = tf.math.floor(1.0 / self.rate)
        faded = tf.maximum(nth - averaged, 0.0) * tf.math.log1p(-min(self.rate, 1.0 - 1e-6))
        return faded - tf.math.log(tf.maximum(tf.minimum(nth, averaged), 1.0))


def share_of_events(counts: np.ndarray) -> np.ndarray:
    """Each item's share of all train events, float32 [R]; 0 for the unknown item, whatever its count."""
    counts = counts.astype(np.float64)
    counts[0] = 0.0
    return (counts / max(counts.sum(), 1.0)).astype(np.float32)


def _mixed(values: tf.Tensor, stream: int) -> tf.Tensor:
    """uint64 [n] -> uint64 [n], by the mixer of SplitMix64 (Steele et al. 2014); a stream is a function of its own."""
    values += tf.constant(stream * 0x9E3779B97F4A7C15 % 2**64, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(values, tf.constant(shift, tf.uint64))
        values = tf.bitwise.bitwise_xor(values, shifted) * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(values, tf.bitwise.right_shift(values, tf.constant(31, tf.uint64)))
