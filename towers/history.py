"""The items that a batch of users clicked, embedded, in the two forms in which towers read them."""

from collections.abc import Callable
from dataclasses import dataclass

from towers.keras import tf
from towers.precision import wide
from towers.sparse_products import sparse_matrix, sums_by_place, transposed_product


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
        shares = tf.math.divide_no_nan(kept, tf.reduce_sum(kept, axis=1, keepdims=True))  # (B, L)
        if self.rows is None:
            return tf.matmul(shares[:, tf.newaxis, :], self.items())[:, 0]  # (B, 1, L) x (B, L, W) -> (B, W)
        return _mixed(self.embedded, self.rows, shares)


def _mixed(embedded: tf.Tensor, rows: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Sums of rows in given shares: float [U, W], int32 [B, L], float [B, L] -> float [B, W].

    A product with a sparse [B, U] matrix: the rows of the B * L places are not written out, nor are their gradients,
    and the gradient is a product with its transpose, which takes a third of the time of tf.sparse.segment_sum's.
    """
    matrix = sparse_matrix(rows, shares, tf.shape(embedded)[0])

    @tf.custom_gradient
    def product(dense: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return transposed_product(matrix, upstream)

        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense), gradient

    return tf.cast(product(tf.cast(embedded, tf.float32)), embedded.dtype)


def for_two(embedded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float [U, W] for two readers, the second of which gathers some of its rows, none of them twice.

    Their gradients are added to those of the first in place. TensorFlow would write them out among zeros, and then add
    all rows of the two.
    """

    @tf.custom_gradient
    def twice(embedded: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        def gradient(every: tf.Tensor, some: tf.IndexedSlices) -> tf.Tensor:
            # Nobody else may read the sum. In float32, as not every device can do it in shorter types.
            total = tf.raw_ops.InplaceAdd(x=wide(every), i=some.indices, v=wide(some.values))
            return tf.cast(total, embedded.dtype)

        return (tf.identity(embedded), tf.identity(embedded)), gradient

    return twice(embedded)


def take(embedded: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """float [U, W], int32 [n] -> float [n, W]: a gather whose gradient is added up by row, by a sparse product.

    The gradient of tf.gather is a row for each of the n, which whoever reads it has to add up.
    """

    @tf.custom_gradient
    def gather(embedded: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return sums_by_place(upstream, rows, tf.shape(embedded)[0])

        return tf.gather(embedded, rows), gradient

    return gather(embedded)
