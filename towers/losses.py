"""The retrieval loss: pure functions of tensors.

For user i with positive p, score s_ij = <u_i, v_j> / tau and a catalogue C_i, the loss meant is the softmax over it,

    L_i = log( exp(s_ip) + N_i ) - s_ip,   N_i = sum of exp(s_ij) over j in C_i but p.

N_i is too long a sum, so it is estimated from items drawn at random. Where item j is expected e_j times among n draws,

    N^_i = sum of exp(s_ij) / e_j over the draws j that are in C_i but not p,

has the expectation N_i exactly, and so has its gradient: each item comes e_j times on average and counts 1 / e_j. That
holds whatever the draws depend on of each other, with repeated draws, and for several sources of draws together, e_j
being the sum over them (the balance heuristic of multiple importance sampling, Veach 1997). Dividing by e_j is to
subtract log e_j from the logit. Three things follow:

- The positive is in the sum with certainty and once: e = 1, its logit is not corrected, and its copies among the draws
  are left out. Yi et al. 2019 correct it as if it had been drawn; its share is then exp(s_ip) / e_p, and the gradient
  is biased however many negatives there are. What follows is the correction of Khrylchenko et al. 2025 (Correcting the
  LogQ Correction): they weigh log(exp(s_ip) / N^_i) by the constant 1 - P^(p), the doubt about the positive, and with
  P^(p) = exp(s_ip) / (exp(s_ip) + N^_i) the gradient of L^_i is -(1 - P^(p)) times that of log(exp(s_ip) / N^_i).
- So is any other item that is put there on purpose (an explicit or a mined negative): not corrected, its copies out.
- Items the user has clicked are not in C_i: their draws are left out, and nothing else changes.

The logarithm and the ratio of sums in its gradient are not linear: L^_i and its gradient are consistent, not unbiased.
By exact enumeration of the draws from a small catalogue, tests/test_losses.py finds N^ and its gradient unbiased, and
the bias of the gradient of L^_i to halve when n doubles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towers.keras import tf
from towers.softmax_kernel import weighted_log_sum

MASKED = -1e30
"""Added to a logit it leaves a probability of exactly 0 in float32; finite, twice of it too, so that nothing is NaN."""

BUCKETS = 1 << 16
"""Of a hash table of items, a power of 2: a quarter of a megabyte, and many more than a batch has columns."""


@dataclass(frozen=True)
class Shared:
    """Negatives that the batch shares; the logit of negative j for user i is <u_i, v_j> / tau - log e_j.

    users: float [B, D], divided by tau. items: float [n, D].
    log_expected: float32 [n], log e_j; -MASKED for a place without an item, whose probability is then 0.
    excluded: groups of (int32 [H], int32 [H]), users i and columns j whose item is no negative of theirs, i ascending
      in each group; their probability is 0. A pair may come twice.
    """

    users: tf.Tensor
    items: tf.Tensor
    log_expected: tf.Tensor
    excluded: Sequence[tuple[tf.Tensor, tf.Tensor]] = ()


def own_logits(
    users: tf.Tensor, items: tf.Tensor, log_weight: tf.Tensor, present: tf.Tensor, temperature: float
) -> tf.Tensor:
    """The logits of items that each user has in the sum with certainty: s_ij + log w_j.

    Args:
      users: float [B, D]. items: float [B, M, D].
      log_weight: float32 [M], log of how many times an item counts: 0 for the softmax over the catalogue.
      present: bool [B, M], False where there is no item.
      temperature: tau.
    Returns: float32 [B, M], MASKED where not present.
    """
    scores = tf.cast(tf.einsum("bd,bmd->bm", users / temperature, items), tf.float32)
    return tf.where(present, scores + log_weight, MASKED)


def softmax_loss(
    positive: tf.Tensor, shared: Shared, own: tf.Tensor | None = None, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Cross-entropy of each positive in the softmax of itself and its negatives, (weighted) mean over the batch.

    L = -sum_i w_i log( exp(l_ip) / (exp(l_ip) + sum_j exp(l_ij)) ) / sum_i w_i

    Args:
      positive: float32 [B], logits. shared: the negatives of all. own: float32 [B, M], logits of each user's own.
      weights: float [B], non-negative example weights; None weighs all alike.
    Returns: a float32 scalar.
    References: Yao et al. 2021 (CFM), eq. 6; Xie et al. 2022 (MicRec), eq. 7.
    """
    weights = tf.ones_like(positive) if weights is None else tf.cast(weights, positive.dtype)
    shares = tf.math.divide_no_nan(weights, tf.reduce_sum(weights))
    certain = positive
    if own is not None:
        certain = tf.reduce_logsumexp(tf.concat((positive[:, tf.newaxis], own), axis=1), axis=1)
    excluded = [tf.stack(pairs, axis=1) for pairs in shared.excluded]
    total = weighted_log_sum(shared.users, shared.items, certain, shares, -shared.log_expected, excluded)
    return total - tf.reduce_sum(shares * positive)


def occurrences(rows: tf.Tensor, items: tf.Tensor, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where some users' items stand among the columns of a batch, as `Shared` excludes them.

    Args:
      rows, items: int32 [P], item items[k] belongs to user rows[k], rows ascending; 0 stands for no item.
      columns: int32 [n], n > 0, the item of each column, in any order, with repetitions.
    Returns: int32 [H] and int32 [H]: every user rows[k], ascending, and column j with columns[j] == items[k] > 0.
    """
    order = tf.argsort(columns)
    distinct, _, repeats = tf.unique_with_counts(tf.gather(columns, order))
    slots = _places(distinct, items)
    hit = tf.where(tf.logical_and(slots >= 0, items > 0))[:, 0]  # (h,)
    slots, rows = tf.gather(slots, hit), tf.gather(rows, hit)
    repeats, first = tf.gather(repeats, slots), tf.gather(tf.cumsum(repeats, exclusive=True), slots)
    # An item that stands in m columns is hit once and gives m pairs, side by side.
    starts = tf.cumsum(repeats, exclusive=True)
    total = tf.reduce_sum(repeats)
    pair = tf.cumsum(tf.math.unsorted_segment_sum(tf.ones_like(starts), starts, total)) - 1  # (H,) -> its hit
    return tf.gather(rows, pair), tf.gather(order, tf.range(total) + tf.gather(first - starts, pair))


def _places(distinct: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Where each of some items, int32 [P], stands in distinct, int32 [n] ascending, n > 0: int32 [P], -1 for nowhere.

    A hash table answers for nearly all of them, faster than a search; a table with a place for every item of the
    catalogue would have to be made anew each step. Those whose bucket has another item in it are searched for.
    """
    buckets = [tf.bitwise.bitwise_and(each, BUCKETS - 1) for each in (distinct, items)]  # % takes ten times as long
    table = tf.fill((BUCKETS,), -1)
    table = tf.tensor_scatter_nd_max(table, buckets[0][:, tf.newaxis], tf.range(tf.size(distinct)))
    place = tf.gather(table, buckets[1])
    right = tf.gather(distinct, tf.maximum(place, 0)) == items
    unsure = tf.where(tf.logical_and(place >= 0, tf.logical_not(right)))  # (m, 1)
    sought = tf.gather(items, unsure[:, 0])
    found = tf.minimum(tf.searchsorted(distinct, sought), tf.size(distinct) - 1)
    found = tf.where(tf.gather(distinct, found) == sought, found, -1)
    return tf.tensor_scatter_nd_update(tf.where(right, place, -1), unsure, found)
