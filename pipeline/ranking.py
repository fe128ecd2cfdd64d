"""Scores -> ranks: the exact place of every target among all candidates, with the seen items removed. Pure numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import ArtifactError, ConfigError
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import UNRANKED
from pipeline.progress import bar

Score = Callable[[int, int], np.ndarray]
"""score(start, stop) -> float32 [stop - start, C]: users start .. stop of the evaluation set against all candidates."""

SCORES_AT_ONCE = 1 << 22
"""Bounds memory: a batch of users has about this many scores (16 MB, and a few copies)."""


@dataclass(frozen=True)
class Ranking:
    """What one scorer did with one evaluation set; every metric derives from it.

    ranks: int32 [T], the rank of each target, 1 = top, beyond the first N too; UNRANKED when it cannot be listed.
    best_positions: int32 [C], the best place each candidate had in any user's first max(at), else UNRANKED.
    """

    ranks: np.ndarray
    best_positions: np.ndarray


def evaluate(
    evaluation_set: EvaluationSet, score: Score, at: Sequence[int], description: str = "evaluating"
) -> Ranking:
    """Rank all candidates for every user, exactly.

    Items of the user's history are dropped: they are never listed, and a target among them is a miss. Equal scores
    are ordered by the order of the candidates, which is that of popularity. A score of -inf drops a candidate too.

    Raises ConfigError when there is nobody to evaluate and ArtifactError when a score is NaN.
    """
    if not len(evaluation_set):
        raise ConfigError(
            f"no user has a target in the {evaluation_set.phase} part. "
            "Cure: choose `split` so that the part holds events (`refit` leaves no validation part)"
        )
    targets = evaluation_set.positions[evaluation_set.target_items]
    ranks = np.full(len(targets), UNRANKED, np.int32)
    best_positions = np.full(len(evaluation_set.candidates), UNRANKED, np.int32)
    step = max(1, SCORES_AT_ONCE // len(evaluation_set.candidates))
    with bar(total=len(evaluation_set), desc=description, unit=" users", delay=1) as progress:
        for start in range(0, len(evaluation_set), step):
            stop = min(start + step, len(evaluation_set))
            scores = _without_seen(evaluation_set, score, start, stop)
            pairs = slice(evaluation_set.target_offsets[start], evaluation_set.target_offsets[stop])
            ranks[pairs] = target_ranks(scores, evaluation_set.target_rows[pairs] - start, targets[pairs])
            listed = top_n(scores, max(at))
            places = np.broadcast_to(np.arange(1, listed.shape[1] + 1, dtype=np.int32), listed.shape)
            np.minimum.at(best_positions, listed[listed >= 0], places[listed >= 0])
            progress.update(stop - start)
    return Ranking(ranks, best_positions)


def target_ranks(scores: np.ndarray, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The rank of each target in its row.

    Args: scores float32 [b, C]; rows int [t]; positions int32 [t], the target's column, -1 when it has none.
    Returns: int32 [t]: 1 + candidates with a greater score + candidates before it with an equal one.
    """
    ranks = np.full(len(rows), UNRANKED, np.int32)
    for pair, (row, position) in enumerate(zip(rows.tolist(), positions.tolist(), strict=True)):
        values = scores[row]
        if position >= 0 and values[position] > -np.inf:
            better = np.count_nonzero(values > values[position])
            ranks[pair] = 1 + better + np.count_nonzero(values[:position] == values[position])
    return ranks


def top_n(scores: np.ndarray, n: int) -> np.ndarray:
    """The n best columns of each row, best first, equal scores by column: float32 [b, C] -> int32 [b, min(n, C)].

    Columns that score -inf are not listed; a row with fewer others ends in -1.
    """
    columns = scores.shape[1]
    n = min(n, columns)
    # argpartition alone would choose at random among those that tie with the n-th.
    thresholds = np.partition(scores, columns - n, axis=1)[:, columns - n]
    top = np.full((len(scores), n), -1, np.int32)
    for row, (values, threshold) in enumerate(zip(scores, thresholds, strict=True)):
        above = np.flatnonzero(values > threshold)
        tied = np.flatnonzero((values == threshold) & (values > -np.inf))[: n - len(above)]
        chosen = np.concatenate((above, tied))
        top[row, : len(chosen)] = chosen[np.argsort(-values[chosen], kind="stable")]
    return top


def _without_seen(evaluation_set: EvaluationSet, score: Score, start: int, stop: int) -> np.ndarray:
    scores = np.array(score(start, stop), dtype=np.float32)  # a copy: what score gives may be a view or read-only
    expected = (stop - start, len(evaluation_set.candidates))
    if scores.shape != expected:
        raise ValueError(f"score({start}, {stop}) must return shape {expected}, but returned {scores.shape}")
    if np.isnan(scores).any():
        raise ArtifactError("a score is NaN: the model diverged. Cure: train again with a smaller learning rate")
    scores[evaluation_set.history_positions(start, stop)] = -np.inf
    return scores
