"""The items that a batch of users clicked, embedded, in the two forms in which towers read them."""

from dataclasses import dataclass

from towers.keras import tf


@dataclass(frozen=True)
class History:
    """Embedded histories of B users, L items each.

    embedded: float [U, W], a row per distinct item; or [B * L, W], a row per place, where `rows` is None.
    rows: int32 [B, L], the row of `embedded` that stands at each place.
    present: bool [B, L], False where there is no item.
    """

    embedded: tf.Tensor
    present: tf.Tensor
    rows: tf.Tensor | None = None

    def items(self) -> tf.Tensor:
        """The embedding at each place: float [B, L, W], in the order of the history."""
        embedded = self.embedded if self.rows is None else take(self.embedded, tf.reshape(self.rows, (-1,)))
        return tf.reshape(embedded, (-1, self.present.shape[1], self.embedded.shape[1]))  # (B*L, W) -> (B, L, W)

    def mean(self) -> tf.Tensor:
        """The mean of the items that are present: float [B, W], 0 where there is none."""
        kept = tf.cast(self.present, self.embedded.dtype)
        share = tf.math.divide_no_nan(tf.ones((), kept.dtype), tf.reduce_sum(kept, axis=1, keepdims=True))  # (B, 1)
        return share * self._sum(kept)

    def _sum(self, kept: tf.Tensor) -> tf.Tensor:
        if self.rows is None:
            return tf.matmul(kept[:, tf.newaxis, :], self.items())[:, 0]  # (B, 1, L) x (B, L, W) -> (B, W)
        # Summed where the rows lie: neither B * L rows nor their gradients are written out.
        users, length = tf.unstack(tf.shape(self.present))
        places = tf.cast(tf.where(tf.reshape(self.present, (-1,)))[:, 0], tf.int32)  # (p,), ascending
        rows = tf.gather(tf.reshape(self.rows, (-1,)), places)
        return tf.sparse.segment_sum(self.embedded, rows, places // length, num_segments=users)


def take(embedded: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """float [U, W], int32 [n] -> float [n, W]: a gather whose gradient takes less time than that of tf.gather."""
    return tf.sparse.segment_sum(embedded, rows, tf.range(tf.size(rows)), num_segments=tf.size(rows))
