"""The logarithm of a softmax's denominator over shared negatives, without a B x N matrix in memory."""

from collections.abc import Callable, Sequence

from towers.keras import tf

BLOCK = 512
"""Users at a time: their logits against a few thousand negatives stay in the processor's cache."""
ABSENT = -1e20
"""A bias below it is that of a place without an item."""
LINE = 16
"""Floats of a cache line. Where a row of the logits is a whole number of them, the products read it faster."""


def weighted_log_sum(
    users: tf.Tensor,
    negatives: tf.Tensor,
    others: tf.Tensor,
    weights: tf.Tensor,
    bias: tf.Tensor | None = None,
    excluded: Sequence[tf.Tensor] = (),
) -> tf.Tensor:
    """The weighted sum of each user's log sum exp over the negatives that all users share and what is its own.

    S = sum_i w_i log( exp(o_i) + sum_{j not in X_i} exp(l_ij) ),   l_ij = <u_i, v_j> + b_j

    With o_i the logit of the positive, S - sum_i w_i o_i is the cross-entropy; own negatives of a user join o_i by
    another log sum exp. The gradient is taken block by block along with the sum, so a block's logits are written and
    read in cache; as ordinary TensorFlow operations the same loss passes over a [B, N] matrix about twenty times.

    Args:
      users: float [B, D], divided by the temperature. negatives: float [N, D]. Products are taken in their dtype, sums
        in float32 (float64 where `users` are).
      others: float [B], o. weights: float [B], w; constants, which get no gradient.
      bias: float [N], b, constants too; None is zero.
      excluded: groups of int [H, 2], pairs (i, j) in ascending order of i in each group: the probability of negative
        j for user i is exactly 0. A pair may come twice.
    Returns: a scalar, float32 or float64; differentiable in users, negatives and others.
    """
    wide = tf.float64 if users.dtype == tf.float64 else tf.float32
    weights = tf.stop_gradient(tf.cast(weights, wide))
    fill = LINE - tf.shape(negatives)[0] % LINE  # of negatives that are 0, the last of them for `_block`
    b = tf.zeros(tf.shape(negatives)[:1], wide) if bias is None else tf.stop_gradient(tf.cast(bias, wide))
    b = tf.concat((b, tf.fill((fill - 1,), wide.min / 2), [_level(users, negatives, b)]), axis=0)
    pairs = [tf.cast(group, tf.int32) for group in excluded]

    @tf.custom_gradient
    def summed(users: tf.Tensor, negatives: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        total, *derivatives = _over_blocks(users, negatives, tf.cast(others, wide), weights, b, pairs)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            inputs = (users, negatives, others)
            return [tf.cast(upstream * each, of.dtype) for each, of in zip(derivatives, inputs, strict=True)]

        return total, gradient

    return summed(users, tf.pad(negatives, [[0, fill], [0, 0]]), others)


def _over_blocks(
    users: tf.Tensor,
    negatives: tf.Tensor,
    o: tf.Tensor,
    weights: tf.Tensor,
    bias: tf.Tensor,
    pairs: Sequence[tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """(the sum, its derivatives in users [B, D], in negatives [N, D], in o [B])."""
    count, wide = tf.shape(users)[0], o.dtype
    blocks = (count + BLOCK - 1) // BLOCK
    bounds = [tf.searchsorted(group[:, 0], tf.range(blocks + 1) * BLOCK) for group in pairs]
    shares = tf.TensorArray(wide, blocks, element_shape=(None,), infer_shape=False)
    rows = tf.TensorArray(wide, blocks, element_shape=(None, users.shape[1]), infer_shape=False)

    def body(
        n: tf.Tensor, total: tf.Tensor, rows: tf.TensorArray, d_negatives: tf.Tensor, shares: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor, tf.TensorArray]:
        block = slice(n * BLOCK, tf.minimum((n + 1) * BLOCK, count))
        own = [group[at[n] : at[n + 1]] - (n * BLOCK, 0) for group, at in zip(pairs, bounds, strict=True)]
        u, w = users[block], weights[block]
        probabilities, log_sum = _block(u, negatives, bias, own, wide)
        narrow = tf.cast(probabilities, u.dtype)
        share = tf.math.sigmoid(log_sum - o[block])  # of the negatives in the whole sum
        total += tf.reduce_sum(w * (o[block] + tf.math.softplus(log_sum - o[block])))
        scale = (w * share)[:, tf.newaxis]  # times the probabilities among the negatives: dS / dl
        d_users = scale * tf.cast(tf.matmul(narrow, negatives), wide)
        scaled = tf.cast(scale * tf.cast(u, wide), u.dtype)
        # The block's transpose of [D, N], not [N, D]: a product that has to read the block down its columns is slower.
        d_negatives += tf.cast(tf.matmul(scaled, narrow, transpose_a=True), wide)
        return n + 1, total, rows.write(n, d_users), d_negatives, shares.write(n, w - w * share)

    start = (0, tf.zeros((), wide), rows, tf.zeros_like(tf.transpose(negatives), wide), shares)
    # Two at a time: one block's products run beside what another does on one thread. The sums keep their order.
    _, total, rows, d_negatives, shares = tf.while_loop(lambda n, *_: n < blocks, body, start, parallel_iterations=2)
    return total, rows.concat(), tf.transpose(d_negatives), shares.concat()


def _level(users: tf.Tensor, negatives: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """A logit below all others that adds nothing to any sum in float32, and whose probability is a normal number of it.

    Where logits may be too far apart for there to be one, the lowest number. By Cauchy and Schwarz <u, v> <= |u| |v|.
    """
    u, v = (tf.norm(tf.cast(each, bias.dtype), axis=1) for each in (users, negatives))
    product = tf.reduce_max(u) * tf.reduce_max(v)
    present = tf.boolean_mask(bias, bias > ABSENT)
    level = tf.reduce_min(present) - product - 20
    most = tf.reduce_max(present) + product + tf.math.log(tf.cast(tf.size(bias), bias.dtype))
    apart = most - level  # minus infinity where none is present
    return tf.where(tf.logical_and(apart > 0, apart < 80), level, bias.dtype.min / 2)


def _block(
    users: tf.Tensor, negatives: tf.Tensor, bias: tf.Tensor, pairs: Sequence[tf.Tensor], wide: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of R users: the softmax over the negatives alone [R, N], and the log of its denominator [R].

    The last negative is none: where its logit is not the lowest number, its probability says what the denominator is.
    """
    logits = tf.nn.bias_add(tf.cast(tf.matmul(users, negatives, transpose_b=True), wide), bias)  # (R, N)
    logits = _without(logits, pairs)
    probabilities = tf.nn.softmax(logits)

    def of_the_last() -> tf.Tensor:
        last = probabilities[:, -1]
        return tf.where(last < 0.5, bias[-1] - tf.math.log(last), wide.min)  # a half and more: all others are excluded

    def of_the_largest() -> tf.Tensor:  # one pass: reduce_max would need two
        largest, place = tf.math.top_k(probabilities, 1)  # (R, 1)
        return (tf.gather(logits, place, batch_dims=1) - tf.math.log(largest))[:, 0]

    return probabilities, tf.cond(bias[-1] > ABSENT, of_the_last, of_the_largest)


def _without(logits: tf.Tensor, pairs: Sequence[tf.Tensor]) -> tf.Tensor:
    """The logits with the lowest number at the excluded pairs, written over the logits, which nobody else may read.

    tf.tensor_scatter_nd_update would copy the block first.
    """
    shape = tf.shape(logits)
    flat = tf.reshape(logits, (-1,))
    for group in pairs:
        lowest = tf.fill((tf.shape(group)[0],), logits.dtype.min)
        flat = tf.raw_ops.InplaceUpdate(x=flat, i=group[:, 0] * shape[1] + group[:, 1], v=lowest)
    return tf.reshape(flat, shape)
