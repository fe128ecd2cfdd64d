"""Layer normalisation with a gradient of its own, at half the cost of tf.keras's on a CPU."""

from collections.abc import Callable

from towers.keras import keras, tf


class LayerNorm(keras.layers.LayerNormalization):
    """keras.layers.LayerNormalization over the last axis: the same weights and results.

    Sums over rows of a few dozen numbers are products with a column of ones, which the processor does several times
    faster than a reduction; the gradient is the closed form. Computed in float32 at least, whatever the precision.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """float [..., W] -> [..., W]."""
        wide = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        rows = tf.cast(tf.reshape(inputs, (-1, inputs.shape[-1])), wide)  # (..., W) -> (n, W)
        normed = _normalised(rows, tf.cast(self.gamma, wide), tf.cast(self.beta, wide), self.epsilon)
        return tf.cast(tf.reshape(normed, (-1, *inputs.shape[1:])), inputs.dtype)  # -> (..., W)


@tf.custom_gradient
def _normalised(
    rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple]]:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta of each row of float [n, W]."""
    share = tf.fill((rows.shape[1], 1), tf.cast(1 / rows.shape[1], rows.dtype))
    centred = rows - tf.matmul(rows, share)
    rate = tf.math.rsqrt(tf.matmul(tf.square(centred), share) + tf.cast(epsilon, rows.dtype))  # (n, 1)
    normed = centred * rate

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, None]:
        along, scaled = upstream * normed, gamma[:, tf.newaxis] * share
        d_rows = (upstream * gamma - tf.matmul(upstream, scaled) - normed * tf.matmul(along, scaled)) * rate
        ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
        return d_rows, tf.matmul(ones, along)[0], tf.matmul(ones, upstream)[0], None

    return normed * gamma + beta, gradient
