"""Retrieval losses: pure functions of tensors. All reduce by a (weighted) mean over the batch."""

from towers.keras import tf
from towers.softmax_kernel import weighted_log_sum


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
      users: float [B, D]. items: float [B, D], row i the positive of user i. Copies of an item are one vector: where
        dropout has told them apart, the first stands for all of them as a negative.
      item_ids: int [B], the index of each positive.
      log_q: float [B], log of the probability that item j is drawn as a batch member; None for no correction.
      temperature: tau.
      weights: float [B], non-negative example weights; None weighs all alike.
    Returns: a float scalar.
    References: Yao et al. 2021 (CFM), eq. 6; Yi et al. 2019 (RecSys), eqs. 3-4, for the correction.
    """
    # A distinct item is one column, weighted by its copies: fewer columns, and no matrix of who is whose copy.
    distinct, column, copies = tf.unique_with_counts(item_ids)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(item_ids)), column, tf.size(distinct))
    own = tf.cast(tf.stack((tf.range(tf.size(column)), column), axis=1), tf.int64)  # (B, 2)
    bias, positive = tf.math.log(tf.cast(copies, tf.float32)), _positive(users, items, temperature)
    if log_q is not None:
        bias, positive = bias - tf.gather(log_q, first), positive - log_q
    shares = _shares(positive, weights)
    total = weighted_log_sum(users / temperature, tf.gather(items, first), positive, shares, bias, own)
    return total - tf.reduce_sum(shares * positive)


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
    positive = _positive(users, positives, temperature)
    shares = _shares(positive, weights)
    total = weighted_log_sum(users / temperature, negatives, positive, shares, excluded=excluded)
    return total - tf.reduce_sum(shares * positive)


def _positive(users: tf.Tensor, items: tf.Tensor, temperature: float) -> tf.Tensor:
    """<u_i, v_i> / tau, float32 [B]."""
    return tf.reduce_sum(tf.cast(users, tf.float32) * tf.cast(items, tf.float32), axis=1) / temperature


def _shares(positive: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """The weights as shares of their sum, float32 [B]; all 0 where the sum is."""
    weights = tf.ones_like(positive) if weights is None else weights
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights))
