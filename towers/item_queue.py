"""The positives of past batches, kept as negatives for the next ones."""

from towers import replicas
from towers.keras import keras, tf


class ItemQueue(keras.layers.Layer):
    """First in, first out: items of the last batches with the vectors they had then (CBNS, Wang et al. 2021).

    The vectors get no gradient. Everything is kept in variables, so that a checkpoint holds the queue.

    Args:
      size: M, items kept. dim: D of their vectors.
      warmup: batches before the queue gives anything out: vectors change fast at first, and are out of date at once.
    """

    def __init__(self, size: int, dim: int, warmup: int) -> None:
        super().__init__(name="item_queue", trainable=False)
        self.size, self.warmup = size, warmup
        self.vectors = tf.Variable(tf.zeros((size, dim)), trainable=False, name="vectors")
        self.items = tf.Variable(tf.zeros((size,), tf.int32), trainable=False, name="items")
        self.frequency = tf.Variable(tf.zeros((size,)), trainable=False, name="frequency")
        self.pushed = tf.Variable(0, dtype=tf.int64, trainable=False, name="items_pushed")
        self.batches = tf.Variable(0, dtype=tf.int64, trainable=False, name="batches_pushed")

    def read(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(vectors float32 [M, D], items int32 [M], 0 = an empty place, frequency float32 [M] when each was drawn)."""
        ready = tf.cast(self.batches >= self.warmup, tf.int32)
        return tf.identity(self.vectors), self.items * ready, tf.identity(self.frequency)

    def push(self, vectors: tf.Tensor, items: tf.Tensor, frequency: tf.Tensor) -> None:
        """Put a batch in the place of the oldest items: float [B, D], int32 [B] and float32 [B]."""
        count = tf.minimum(tf.size(items), self.size)
        places = tf.math.floormod(self.pushed + tf.range(tf.cast(count, tf.int64)), self.size)
        vectors = tf.cast(tf.stop_gradient(vectors), tf.float32)
        for variable, values in ((self.vectors, vectors), (self.items, items), (self.frequency, frequency)):
            replicas.scatter_update(variable, places, values[-count:])
        replicas.assign_add(self.pushed, tf.cast(count, tf.int64))
        replicas.assign_add(self.batches, tf.constant(1, tf.int64))
