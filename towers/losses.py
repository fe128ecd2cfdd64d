"""Retrieval losses: pure functions of tensors. All reduce by a (weighted) mean over the batch."""

from towers.keras import tf


def batch_softmax(
    users: tf.Tensor,
    items: tf.Tensor,
    item_ids: tf.Tensor,
    log_q: tf.Tensor | None = None,
    temperature: float = 1.0,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each user's positive against the other positives of the batch.

    L = -sum_i w_i log( exp(l_ii) / sum_j exp(l_ij) ) / sum_i w_i,   l_ij = <u_i, v_j> / tau - log q_j

    The same item standing elsewhere in the batch is no negative: its probability is exactly 0. The positive is
    corrected like the negatives, although it is in its row with certainty and not with probability q: against the
    softmax over all items its own term is biased, as in Yi et al.

    Args:
      users: float [B, D]. items: float [B, D], row i the positive of user i.
      item_ids: int [B], the index of each positive.
      log_q: float [B], log of the probability that item j is drawn as a batch member; None for no correction.
      temperature: tau.
      weights: float [B], non-negative example weights; None weighs all alike.
    Returns: a float scalar.
    References: Yao et al. 2021 (CFM), eq. 6; Yi et al. 2019 (RecSys), eqs. 3-4, for the correction.
    """
    logits = tf.matmul(users, items, transpose_b=True) / temperature  # (B, B)
    if log_q is not None:
        logits -= log_q
    same = tf.equal(item_ids[:, tf.newaxis], item_ids)  # (B, B)
    accidental = tf.logical_and(same, tf.logical_not(tf.eye(tf.shape(users)[0], dtype=tf.bool)))
    logits = tf.where(accidental, logits.dtype.min, logits)
    losses = tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits)
    return _weighted_mean(losses, weights)


def sampled_softmax(
    users: tf.Tensor,
    positives: tf.Tensor,
    negatives: tf.Tensor,
    excluded: tf.Tensor,
    temperature: float = 1.0,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each positive against negatives drawn uniformly and shared by the batch.

    L = -sum_i w_i log( exp(s_ii / tau) / (exp(s_ii / tau) + sum_{j in S-_i} exp(s_ij / tau)) ) / sum_i w_i

    The denominator holds the positive (the standard form of MicRec's eq. 7). Uniform draws need no logQ: the
    correction would be one constant.

    Args:
      users, positives: float [B, D]. negatives: float [n, D].
      excluded: int64 [H, 2], pairs (i, j) where user i has clicked negative j; their probability is exactly 0.
      temperature: tau. weights: float [B] or None.
    Returns: a float scalar.
    References: Xie et al. 2022 (MicRec), eq. 7.
    """
    positive = tf.reduce_sum(users * positives, axis=1, keepdims=True) / temperature  # (B, 1)
    negative = tf.matmul(users, negatives, transpose_b=True) / temperature  # (B, n)
    blocked = tf.fill((tf.shape(excluded)[0],), negative.dtype.min)
    negative = tf.tensor_scatter_nd_update(negative, excluded, blocked)
    logits = tf.concat((positive, negative), axis=1)  # (B, 1 + n)
    return _weighted_mean(tf.reduce_logsumexp(logits, axis=1) - positive[:, 0], weights)


def _weighted_mean(losses: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    if weights is None:
        return tf.reduce_mean(losses)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))
