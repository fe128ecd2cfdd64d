"""Contrastive losses: pure functions of tensors."""

from towers.keras import tf
from towers.precision import wide

BLOCK = 64
"""Anchors whose products with the candidates after them are one product of matrices."""


def info_nce(anchors: tf.Tensor, candidates: tf.Tensor, temperature: float, first: tf.Tensor | int = 0) -> tf.Tensor:
    """InfoNCE where row i's positive is candidate first + i and its negatives are all other candidates.

    L = -1/n sum_i log( exp(<a_i, c_i> / tau) / sum_{j in [N]} exp(<a_i, c_j> / tau) )

    Cosine similarity when both are of unit norm.

    Args:
      anchors: float [n, D]. candidates: float [N, D]. temperature: tau.
      first: a replica has some rows of the anchors, and all candidates.
    Returns: a float scalar.
    References: Yao et al. 2021 (CFM), eq. 3.
    """
    logits = wide(tf.matmul(anchors, candidates, transpose_b=True)) / temperature  # (n, N)
    return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits[:, first:]))


def info_nce_sampled(
    anchors: tf.Tensor,
    positives: tf.Tensor,
    products: tf.Tensor,
    temperature: float,
    allowed: tf.Tensor | None = None,
    valid: tf.Tensor | None = None,
) -> tf.Tensor:
    """InfoNCE with own negatives for each anchor; the positive is in the denominator, as in SimCLR.

    L = -1/|V| sum_{i in V} log( exp(<a_i, p_i> / tau) / (exp(<a_i, p_i> / tau) + sum_j exp(<a_i, n_ij> / tau)) )

    Args:
      anchors, positives: float [N, D]. products: float [N, m], <a_i, n_ij>. temperature: tau.
      allowed: bool [N, m]; False gives that negative a probability of exactly 0. None allows all.
      valid: bool [N]; False leaves that anchor out. None takes all.
    Returns: a float scalar, 0 when no anchor is valid.
    References: Xie et al. 2022 (MicRec), eqs. 3-5.
    """
    positive = tf.reduce_sum(wide(anchors) * wide(positives), axis=1, keepdims=True) / temperature  # (N, 1)
    negative = wide(products) / temperature  # (N, m)
    if allowed is not None:
        negative = tf.where(allowed, negative, negative.dtype.min)
    losses = tf.reduce_logsumexp(tf.concat((positive, negative), axis=1), axis=1) - positive[:, 0]
    if valid is None:
        return tf.reduce_mean(losses)
    weights = tf.cast(valid, losses.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


def products_with_following(
    anchors: tf.Tensor, candidates: tf.Tensor, count: int, first: tf.Tensor | int = 0
) -> tf.Tensor:
    """The products of each anchor with the candidates after its own, cyclic: ssl_tasks.task.following says which.

    A copy of `count` candidates for each anchor, and its gradient, would take most of a task's time.

    Args:
      anchors: float [n, D]. candidates: float [N, D], of which first + i is that of anchor i. count: m <= N - 1.
    Returns: float [n, m], <a_i, c_((first + i + 1 + j) mod N)>.
    """
    rows, width = tf.shape(anchors)[0], BLOCK + count - 1
    blocks = (rows + BLOCK - 1) // BLOCK
    places = first + 1 + BLOCK * tf.range(blocks)[:, tf.newaxis] + tf.range(width)  # (blocks, width)
    windows = tf.gather(candidates, places % tf.shape(candidates)[0])
    padded = tf.pad(anchors, [[0, blocks * BLOCK - rows], [0, 0]])
    found = tf.matmul(tf.reshape(padded, (blocks, BLOCK, anchors.shape[1])), windows, transpose_b=True)
    # Columns i .. i + m - 1 of row i are wanted: in rows that are longer by one, each begins i places to the left.
    flat = tf.pad(tf.reshape(found, (blocks, BLOCK * width)), [[0, 0], [0, BLOCK]])
    wanted = tf.reshape(flat, (blocks, BLOCK, width + 1))[:, :, :count]
    return tf.reshape(wanted, (blocks * BLOCK, count))[:rows]
