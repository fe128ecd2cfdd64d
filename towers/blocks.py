"""What several towers share: the MLP, the transformer block and the unit-norm output."""

from collections.abc import Sequence

from towers.keras import keras, tf
from towers.layer_norm import LayerNorm
from towers.precision import wide
from towers.randomness import Dropout


class MLP(keras.layers.Layer):
    """Dense layers of the given sizes, ReLU and dropout between them, the last one linear.

    Not a keras.Sequential, which calls its layers once more when it meets a new shape: the draws of a step would be
    numbered otherwise in the first step of a run than in the others.
    """

    def __init__(self, hidden: Sequence[int], dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.inner = [
            keras.layers.Dense(size, activation="relu", name=f"{name}_{i}") for i, size in enumerate(hidden[:-1])
        ]
        self.outer = keras.layers.Dense(hidden[-1], name=f"{name}_{len(hidden) - 1}")
        self.dropout = Dropout(dropout)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x float [..., W] -> [..., hidden[-1]]."""
        for layer in self.inner:
            x = self.dropout(layer(x), training=training)
        return self.outer(x)


def unit_norm(vectors: tf.Tensor) -> tf.Tensor:
    """[..., D] -> [..., D] of length 1; a vector shorter than 1e-6 becomes 0, and gets no gradient.

    A user without history may have such a one. Its gradient would be a million times that of its direction, which in
    float16 is no number.
    """
    x = wide(vectors)
    square = tf.reduce_sum(tf.square(x), -1, keepdims=True)
    scale = tf.where(square > 1e-12, tf.math.rsqrt(tf.maximum(square, 1e-12)), 0.0)
    return tf.cast(x * scale, vectors.dtype)


def on_rows(layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    """A layer on the last axis of float [B, L, W] as on rows [B * L, W]: keras would count them at each call."""
    rows = layer(tf.reshape(x, (-1, x.shape[2])))
    return tf.reshape(rows, (-1, x.shape[1], rows.shape[1]))


class TransformerBlock(keras.layers.Layer):
    """Multi-head self-attention and a feed-forward layer, each with a residual and layer norm after it."""

    def __init__(self, width: int, heads: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.width, self.heads = width, heads
        self.qkv = keras.layers.Dense(3 * width, use_bias=False, name="qkv")
        self.out = keras.layers.Dense(width, name="out")
        self.inner = keras.layers.Dense(width, activation="relu", name="inner")
        self.outer = keras.layers.Dense(width, name="outer")
        self.norm_attention = LayerNorm(epsilon=1e-6, name="norm_attention")
        self.norm_feed_forward = LayerNorm(epsilon=1e-6, name="norm_feed_forward")
        self.dropout = Dropout(dropout)

    def call(self, x: tf.Tensor, present: tf.Tensor, training: bool = False) -> tf.Tensor:
        """x float [B, L, W], present bool [B, L] -> [B, L, W]; absent positions are never attended to."""
        attended = self.dropout(self._attend(x, present), training=training)
        x = self.norm_attention(x + attended)
        fed = self.dropout(on_rows(self.outer, on_rows(self.inner, x)), training=training)
        return self.norm_feed_forward(x + fed)

    def _attend(self, x: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        length, size = x.shape[1], self.width // self.heads
        qkv = tf.reshape(on_rows(self.qkv, x), (-1, length, 3, self.heads, size))  # (B, L, 3W) -> (B, L, 3, H, S)
        query, key, value = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)))  # 3 x (B, H, L, S)
        scores = tf.matmul(query, key, transpose_b=True) * size**-0.5  # (B, H, L, L)
        # The bias is finite so that a user with an empty history gets a mean of zeros and not NaN.
        lowest = tf.constant(max(-1e9, float(scores.dtype.min) / 2), scores.dtype)
        scores += tf.where(present, tf.zeros((), scores.dtype), lowest)[:, tf.newaxis, tf.newaxis, :]
        mixed = tf.matmul(tf.nn.softmax(scores), value)  # (B, H, L, S)
        mixed = tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (-1, length, self.width))  # (B, H, L, S) -> (B, L, W)
        return on_rows(self.out, mixed)
