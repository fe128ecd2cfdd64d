"""Ranking metrics, all derived from the rank that each target got in its user's list. Pure numpy.

A pair is one (user, target). Its rank is 1 for the top of the list and UNRANKED when the list does not hold the target.
With one target a user (leave-last-out) HIT@N and Recall@N are the same number; with several, HIT@N is the average over
pairs, so a user with many targets weighs more, and Recall@N the average over users.
"""

import numpy as np

UNRANKED = int(np.iinfo(np.int32).max)
"""The rank of a target that the list does not hold: unknown, not a candidate, or removed because already seen."""

DECILES = 10


def hits(ranks: np.ndarray, n: int) -> np.ndarray:
    """int32 [T] -> float64 [T]: 1 where the target is among the first n. HIT@n is the mean over pairs."""
    return (ranks <= n).astype(np.float64)


def hit_curve(ranks: np.ndarray, depth: int) -> np.ndarray:
    """HIT@1 .. HIT@depth, averages over pairs: int32 [T] -> float64 [depth]."""
    listed = ranks[ranks <= depth]
    return np.cumsum(np.bincount(listed, minlength=depth + 1)[1:]) / len(ranks)


def recall(ranks: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """Recall@k of each user: the share of the user's targets among the first k.

    Args: ranks int32 [T]; offsets int64 [U + 1], user u owns pairs offsets[u] .. offsets[u + 1], at least one.
    Returns: float64 [U].
    """
    return sum_by_user(hits(ranks, k), offsets) / np.diff(offsets)


def average_precision(ranks: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """AP@k of each user; MAP@k is its mean over users.

    AP@k = 1 / min(k, targets) * sum over targets of rank r <= k of (targets at rank <= r) / r
    so that a list which starts with all targets (or, when they are more than k, with k of them) has 1.

    Args and returns as `recall`.
    """
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ordered = ranks[np.lexsort((ranks, users))]
    found = np.arange(len(ranks)) - offsets[users] + 1  # targets of the user at this rank or above
    precision = np.where(ordered <= k, found / ordered, 0.0)
    return sum_by_user(precision, offsets) / np.minimum(k, np.diff(offsets))


def coverage(best_positions: np.ndarray, n: int) -> float:
    """Coverage@n: the share of candidates that at least one user's first n hold.

    Args: best_positions int32 [C], the best position (1 = top) each candidate had in any list.
    """
    return float(np.mean(best_positions <= n))


def popularity_deciles(counts: np.ndarray) -> np.ndarray:
    """The popularity decile of every item: 0 for the most frequent tenth of the trained items, the head.

    Args: counts int64 [R], train events of each item index; equal counts are ordered by index.
    Returns: int8 [R], -1 for items without a train event. With n trained items decile 0 has ceil(n / 10).
    """
    trained = int(np.count_nonzero(counts))
    order = np.argsort(-counts, kind="stable")[:trained]
    deciles = np.full(len(counts), -1, np.int8)
    deciles[order] = np.arange(trained) * DECILES // max(trained, 1)
    return deciles


def sum_by_user(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """float [T], int64 [U + 1] -> float64 [U]; a user may own no pair."""
    users = len(offsets) - 1
    return np.bincount(np.repeat(np.arange(users), np.diff(offsets)), weights=values, minlength=users)
