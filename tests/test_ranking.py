"""Exact ranks and lists against sorting in Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequence_fixtures import TIME_SPLIT, Log, logs, sequences

from pipeline import ranking
from pipeline.errors import ArtifactError, ConfigError
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import UNRANKED
from pipeline.ranking import Score, evaluate, target_ranks, top_n

ITEMS = 6


def catalogue_set(log: Log) -> EvaluationSet:
    return EvaluationSet.build(sequences(log, TIME_SPLIT), ITEMS + 1, TIME_SPLIT, candidates="catalogue")


def fixed(scores: np.ndarray) -> Score:
    return lambda start, stop: scores[start:stop]


def best_first(values: list[float]) -> list[int]:
    return sorted((i for i in range(len(values)) if values[i] > -np.inf), key=lambda i: (-values[i], i))


rows_of_scores = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=width, max_size=width),
        min_size=1,
        max_size=5,
    )
)


@given(rows_of_scores, st.integers(1, 15))
def test_top_n_is_the_start_of_the_sorted_row(rows: list[list[float]], n: int) -> None:
    width = min(n, len(rows[0]))
    expected = [(best_first(row)[:width] + [-1] * width)[:width] for row in rows]
    assert top_n(np.array(rows, np.float32), n).tolist() == expected


@given(rows_of_scores)
def test_target_ranks_are_the_places_in_the_sorted_row(rows: list[list[float]]) -> None:
    width = len(rows[0])
    pairs = [(row, position) for row in range(len(rows)) for position in range(-1, width)]
    expected = [
        best_first(rows[row]).index(position) + 1 if position in best_first(rows[row]) else UNRANKED
        for row, position in pairs
    ]
    which, positions = np.array(pairs).T
    assert target_ranks(np.array(rows, np.float32), which, positions).tolist() == expected


@given(logs(ITEMS), st.integers(0, 2**32 - 1), st.sampled_from([1, 20, 1 << 22]))
def test_evaluate_matches_a_loop_over_users(log: Log, seed: int, at_once: int) -> None:
    test = catalogue_set(log)
    if not len(test):
        return
    scores = np.random.default_rng(seed).integers(0, 4, (len(test), ITEMS)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SCORES_AT_ONCE", at_once)
        found = evaluate(test, fixed(scores), [2, 3])
    candidates, ranks, best = test.candidates.tolist(), [], [UNRANKED] * ITEMS
    for user in range(len(test)):
        seen = test.history_items[test.history_offsets[user] : test.history_offsets[user + 1]].tolist()
        allowed = [p for p in range(ITEMS) if candidates[p] not in seen]
        order = sorted(allowed, key=lambda p: (-scores[user, p], p))
        for item in test.target_items[test.target_offsets[user] : test.target_offsets[user + 1]].tolist():
            listed = [candidates[p] for p in order]
            ranks.append(listed.index(item) + 1 if item in listed else UNRANKED)
        for place, position in enumerate(order[:3], start=1):
            best[position] = min(best[position], place)
    assert found.ranks.tolist() == ranks
    assert found.best_positions.tolist() == best


SMALL: Log = [[(1, 1), (2, 2), (61, 3)], [(3, 1), (62, 1), (63, 0)]]


def test_a_seen_item_is_dropped_however_high_it_scores() -> None:
    test = catalogue_set(SMALL)
    scores = np.zeros((2, ITEMS), np.float32)
    scores[:, test.positions[1]] = 1e30
    found = evaluate(test, fixed(scores), [ITEMS])
    assert found.best_positions[test.positions[1]] == UNRANKED
    assert found.ranks.tolist()[1] == UNRANKED


def test_an_unknown_target_is_a_miss() -> None:
    assert evaluate(catalogue_set(SMALL), fixed(np.zeros((2, ITEMS), np.float32)), [1]).ranks[2] == UNRANKED


def test_equal_scores_are_ordered_by_popularity() -> None:
    log: Log = [[(1, 4), (2, 4), (3, 5), (61, 2)], [(3, 5), (4, 5), (5, 3), (62, 4)], [(1, 2), (63, 3)]]
    test = EvaluationSet.build(sequences(log, TIME_SPLIT), ITEMS + 1, TIME_SPLIT)
    assert test.candidates.tolist() == [5, 4, 2, 3]
    found = evaluate(test, fixed(np.zeros((3, 4), np.float32)), [1])
    # Without the seen ones the lists are (2, 3), (4, 2) and (5, 4, 3).
    assert found.ranks.tolist() == [1, 1, 3]


def test_permuting_users_permutes_ranks() -> None:
    log: Log = [[(1, 1), (61, 2)], [(2, 3), (62, 4)], [(3, 5), (63, 6)]]
    scores = np.random.default_rng(3).random((3, ITEMS)).astype(np.float32)
    forward, backward = catalogue_set(log), catalogue_set(log[::-1])
    scores_by_item = np.zeros((3, ITEMS + 1), np.float32)
    scores_by_item[:, 1:] = scores
    ranks = evaluate(forward, fixed(scores_by_item[:, forward.candidates]), [3]).ranks
    again = evaluate(backward, fixed(scores_by_item[::-1][:, backward.candidates]), [3]).ranks
    assert again.tolist() == ranks[::-1].tolist()


def test_the_scores_of_the_caller_stay_as_they_are() -> None:
    scores = np.zeros((2, ITEMS), np.float32)
    evaluate(catalogue_set(SMALL), fixed(scores), [3])
    assert not scores.any()


def test_nan_is_refused_and_not_ranked_first() -> None:
    scores = np.zeros((2, ITEMS), np.float32)
    scores[1, 2] = np.nan
    with pytest.raises(ArtifactError, match="diverged"):
        evaluate(catalogue_set(SMALL), fixed(scores), [3])


def test_nobody_to_evaluate_is_an_error_with_its_cure() -> None:
    with pytest.raises(ConfigError, match=r"test part.*Cure"):
        evaluate(catalogue_set([[(1, 1)]]), fixed(np.zeros((0, ITEMS), np.float32)), [3])


def test_a_score_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 6\).*\(2, 5\)"):
        evaluate(catalogue_set(SMALL), fixed(np.zeros((2, 5), np.float32)), [3])


def test_memory_is_bounded_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "SCORES_AT_ONCE", 2 * ITEMS)
    log: Log = [[(1, 1), (61, 2)]] * 5
    asked = []

    def score(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return np.zeros((stop - start, ITEMS), np.float32)

    test = catalogue_set(log)
    evaluate(test, score, [3])
    assert asked == [(0, 2), (2, 4), (4, 5)]
