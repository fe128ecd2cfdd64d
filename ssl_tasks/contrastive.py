"""Contrastive losses: pure functions of tensors."""

from towers.keras import tf
from towers.precision import wide


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
    negatives: tf.Tensor,
    temperature: float,
    allowed: tf.Tensor | None = None,
    valid: tf.Tensor | None = None,
) -> tf.Tensor:
    """InfoNCE with own negatives for each anchor; the positive is in the denominator, as in SimCLR.

    L = -1/|V| sum_{i in V} log( exp(<a_i, p_i> / tau) / (exp(<a_i, p_i> / tau) + sum_j exp(<a_i, n_ij> / tau)) )

    Args:
      anchors, positives: float [N, D]. negatives: float [N, m, D]. temperature: tau.
      allowed: bool [N, m]; False gives that negative a probability of exactly 0. None allows all.
      valid: bool [N]; False leaves that anchor out. None takes all.
    Returns: a float scalar, 0 when no anchor is valid.
    References: Xie et al. 2022 (MicRec), eqs. 3-5.
    """
    positive = tf.reduce_sum(wide(anchors) * wide(positives), axis=1, keepdims=True) / temperature  # (N, 1)
    negative = wide(tf.einsum("nd,nmd->nm", anchors, negatives)) / temperature  # (N, m)
    if allowed is not None:
        negative = tf.where(allowed, negative, negative.dtype.min)
    losses = tf.reduce_logsumexp(tf.concat((positive, negative), axis=1), axis=1) - positive[:, 0]
    if valid is None:
        return tf.reduce_mean(losses)
    weights = tf.cast(valid, losses.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))
