"""Metrics against loops written from their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import (
    UNRANKED,
    average_precision,
    coverage,
    hit_curve,
    hits,
    popularity_deciles,
    recall,
    sum_by_user,
)

users_of_distinct_ranks = st.lists(
    st.tuples(st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True), st.integers(0, 2)),
    min_size=1,
    max_size=6,
).map(lambda users: [ranks + [UNRANKED] * misses for ranks, misses in users])


def flat(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate(([0], np.cumsum([len(u) for u in users])))
    return np.array([rank for user in users for rank in user], np.int32), offsets


@given(users_of_distinct_ranks, st.integers(1, 35))
def test_hits_and_recall_match_a_loop(users: list[list[int]], k: int) -> None:
    ranks, offsets = flat(users)
    assert hits(ranks, k).tolist() == [float(r <= k) for user in users for r in user]
    expected = [sum(r <= k for r in user) / len(user) for user in users]
    assert recall(ranks, offsets, k) == pytest.approx(expected)


@given(users_of_distinct_ranks, st.integers(1, 35))
def test_hit_curve_is_hit_at_every_n(users: list[list[int]], depth: int) -> None:
    ranks, _ = flat(users)
    assert hit_curve(ranks, depth) == pytest.approx([hits(ranks, n).mean() for n in range(1, depth + 1)])


@given(users_of_distinct_ranks, st.integers(1, 35))
def test_average_precision_matches_walking_down_the_list(users: list[list[int]], k: int) -> None:
    ranks, offsets = flat(users)
    expected = []
    for user in users:
        found, total = 0, 0.0
        for place in range(1, k + 1):
            if place in user:
                found += 1
                total += found / place
        expected.append(total / min(k, len(user)))
    assert average_precision(ranks, offsets, k) == pytest.approx(expected)


def test_average_precision_of_a_worked_example() -> None:
    # Two targets at places 1 and 3 of 3: (1/1 + 2/3) / 2.
    assert average_precision(np.array([3, 1], np.int32), np.array([0, 2]), 3) == pytest.approx([5 / 6])


def test_average_precision_is_one_when_more_targets_than_places_fill_the_list() -> None:
    ranks = np.array([2, 1, UNRANKED, UNRANKED], np.int32)
    assert average_precision(ranks, np.array([0, 4]), 2) == pytest.approx([1.0])


def test_an_unranked_target_is_a_miss_at_any_length() -> None:
    assert hits(np.array([UNRANKED], np.int32), 10**9).tolist() == [0.0]


def test_coverage_counts_candidates_listed_for_anyone() -> None:
    best = np.array([1, 10, 11, UNRANKED], np.int32)
    assert [coverage(best, n) for n in (1, 10, 11)] == [0.25, 0.5, 0.75]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_deciles_match_a_sorted_list(counts: list[int]) -> None:
    trained = sorted((i for i, count in enumerate(counts) if count), key=lambda i: (-counts[i], i))
    deciles = popularity_deciles(np.array(counts))
    assert deciles.tolist() == [trained.index(i) * 10 // len(trained) if counts[i] else -1 for i in range(len(counts))]


@pytest.mark.parametrize(("trained", "head"), [(10, 1), (3525, 353), (8512, 852), (5, 1)])
def test_the_head_is_a_tenth_of_the_trained_items_rounded_up(trained: int, head: int) -> None:
    counts = np.concatenate((np.arange(trained, 0, -1), np.zeros(7, np.int64)))
    assert np.flatnonzero(popularity_deciles(counts) == 0).tolist() == list(range(head))


def test_sum_by_user_keeps_users_without_a_pair() -> None:
    assert sum_by_user(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2, 3])).tolist() == [3.0, 0.0, 4.0]
