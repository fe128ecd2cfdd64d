"""The softmax cross-entropy of positives against shared negatives, without a B x N matrix in memory."""

from collections.abc import Callable

from towers.keras import tf

BLOCK = 512
"""Users at a time: their logits against a few thousand negatives stay in the processor's cache."""


def softmax_sum(
    users: tf.Tensor,
    positives: tf.Tensor,
    negatives: tf.Tensor,
    weights: tf.Tensor,
    positive_bias: tf.Tensor | None = None,
    negative_bias: tf.Tensor | None = None,
    excluded: tf.Tensor | None = None,
) -> tf.Tensor:
    """The weighted sum of each user's cross-entropy of its positive against the negatives that all users share.

    L = sum_i w_i ( log( exp(p_i) + sum_{j not in X_i} exp(n_ij) ) - p_i )
    p_i = <u_i, v_i> + a_i,   n_ij = <u_i, v_j> + b_j

    The gradient is taken block by block along with the loss, so a block's logits are written and read once, in cache;
    as ordinary TensorFlow operations the same loss reads and writes a [B, N] matrix about twenty times. Sums are
    float32 at least; products are taken in the dtype of the inputs.

    Args:
      users: float [B, D], divided by the temperature already. positives: float [B, D]. negatives: float [N, D].
      weights: float [B]; a weight of 0 leaves the user out.
      positive_bias: float [B], a. negative_bias: float [N], b. None is zero. Constants: they get no gradient.
      excluded: int64 [H, 2], distinct pairs (i, j) in ascending order of i: the probability of negative j for user i
        is exactly 0.
    Returns: a scalar, float32 (float64 where the inputs are); differentiable in users, positives and negatives.
    """
    wide = tf.float64 if users.dtype == tf.float64 else tf.float32
    weights = tf.stop_gradient(tf.cast(weights, wide))
    a = tf.zeros_like(weights) if positive_bias is None else tf.stop_gradient(tf.cast(positive_bias, wide))
    b = None if negative_bias is None else tf.stop_gradient(tf.cast(negative_bias, wide))
    pairs = tf.zeros((0, 2), tf.int64) if excluded is None else tf.cast(excluded, tf.int64)

    @tf.custom_gradient
    def summed(users: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        u, v = tf.cast(users, wide), tf.cast(positives, wide)
        p = tf.reduce_sum(u * v, axis=1) + a  # (B,)
        loss, scale, d_users, d_negatives = _over_blocks(users, negatives, p, weights, b, pairs)
        d_users += scale[:, tf.newaxis] * v
        d_positives = scale[:, tf.newaxis] * u

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            gradients = zip((d_users, d_positives, d_negatives), (users, positives, negatives), strict=True)
            return [tf.cast(upstream * each, of.dtype) for each, of in gradients]

        return loss, gradient

    return summed(users, positives, negatives)


def _over_blocks(
    users: tf.Tensor, negatives: tf.Tensor, p: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor | None, pairs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """(loss, its derivative in p [B], in the users through the negatives alone [B, D], in the negatives [N, D])."""
    count, wide = tf.shape(users)[0], p.dtype
    blocks = (count + BLOCK - 1) // BLOCK
    bounds = tf.searchsorted(pairs[:, 0], tf.cast(tf.range(blocks + 1) * BLOCK, tf.int64))
    scales = tf.TensorArray(wide, blocks, element_shape=(None,), infer_shape=False)
    rows = tf.TensorArray(wide, blocks, element_shape=(None, users.shape[1]), infer_shape=False)

    def body(
        n: tf.Tensor, loss: tf.Tensor, scales: tf.TensorArray, rows: tf.TensorArray, d_negatives: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray, tf.Tensor]:
        block = slice(n * BLOCK, tf.minimum((n + 1) * BLOCK, count))
        own = pairs[bounds[n] : bounds[n + 1]] - tf.stack((tf.cast(n * BLOCK, tf.int64), 0))
        u, w = users[block], weights[block]
        losses, probabilities, share = _block(u, negatives, p[block], bias, own)
        scale = w * share  # times the probabilities among the negatives: dL / dn
        d_users = scale[:, tf.newaxis] * tf.cast(tf.matmul(probabilities, negatives), wide)
        scaled = tf.cast(scale[:, tf.newaxis], u.dtype) * u
        d_negatives += tf.cast(tf.matmul(probabilities, scaled, transpose_a=True), wide)
        return n + 1, loss + tf.reduce_sum(w * losses), scales.write(n, -scale), rows.write(n, d_users), d_negatives

    start = (0, tf.zeros((), wide), scales, rows, tf.zeros(tf.shape(negatives), wide))
    _, loss, scales, rows, d_negatives = tf.while_loop(lambda n, *_: n < blocks, body, start, parallel_iterations=1)
    return loss, scales.concat(), rows.concat(), d_negatives


def _block(
    users: tf.Tensor, negatives: tf.Tensor, p: tf.Tensor, bias: tf.Tensor | None, pairs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of R users: the losses [R], the softmax over the negatives alone [R, N], and the negatives' share of all [R]."""
    wide = p.dtype
    logits = tf.matmul(users, negatives, transpose_b=True)  # (R, N)
    if bias is not None:
        logits = tf.nn.bias_add(logits, tf.cast(bias, logits.dtype))
    lowest = tf.fill((tf.shape(pairs)[0],), logits.dtype.min)
    logits = tf.tensor_scatter_nd_update(logits, pairs, lowest)
    probabilities = tf.nn.softmax(logits)
    # log sum exp of the negatives, from what the softmax has made of the largest of them.
    largest = tf.cast(tf.reduce_max(logits, axis=1), wide)
    total = largest - tf.math.log(tf.cast(tf.reduce_max(probabilities, axis=1), wide))  # (R,)
    losses = tf.math.softplus(total - p)
    return losses, probabilities, tf.math.sigmoid(total - p)
