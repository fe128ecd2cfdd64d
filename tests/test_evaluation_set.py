"""Who is evaluated, on what history and which targets; against loops over the log."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequence_fixtures import TIME_SPLIT, Log, logs, sequences

from pipeline.config import SplitConfig
from pipeline.errors import ConfigError
from pipeline.evaluation_set import EvaluationSet, before_refit, cold_start_slices, evaluated_parts, slices

LEAVE_LAST_OUT = SplitConfig()
ITEMS = 5


def build(log: Log, split: SplitConfig, **options: Any) -> EvaluationSet:
    return EvaluationSet.build(sequences(log, split), ITEMS + 1, split, **options)


def per_user(offsets: np.ndarray, values: np.ndarray) -> list[list[int]]:
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


LOG: Log = [
    [(1, 1), (2, 2), (31, 3), (61, 4), (62, 4), (63, 1), (64, 0), (65, 0)],
    [(5, 1), (40, 2)],  # nothing in the test
    [(70, 1), (71, 5)],  # nothing before it
    [(50, 2), (80, 5)],
]


def test_time_split_takes_users_with_events_on_both_sides() -> None:
    assert build(LOG, TIME_SPLIT).users.tolist() == [1, 4]


def test_history_is_everything_before_the_phase_oldest_first() -> None:
    test = build(LOG, TIME_SPLIT)
    assert per_user(test.history_offsets, test.history_items) == [[1, 2, 3], [2]]
    assert per_user(test.history_offsets, test.history_timestamps) == [[1, 2, 31], [50]]


def test_repeated_targets_count_once_at_their_first_event_and_unknown_ones_each() -> None:
    test = build(LOG, TIME_SPLIT)
    assert per_user(test.target_offsets, test.target_items) == [[4, 1, 0, 0], [5]]
    assert per_user(test.target_offsets, test.target_timestamps) == [[61, 63, 64, 65], [80]]
    assert test.duplicates == 1


def test_targets_already_in_the_history_are_told() -> None:
    assert build(LOG, TIME_SPLIT).target_seen.tolist() == [False, True, False, False, False]


def test_validation_phase_ends_where_the_test_begins() -> None:
    validation = build(LOG, TIME_SPLIT, phase="validation")
    assert validation.users.tolist() == [1, 2]
    assert validation.target_items.tolist() == [3, 2]
    assert validation.history_items.tolist() == [1, 2, 1]


def test_cold_users_are_those_without_a_history() -> None:
    cold = build(LOG, TIME_SPLIT, users="cold")
    assert (cold.users.tolist(), cold.target_items.tolist(), cold.history_items.tolist()) == ([3], [1, 5], [])
    assert cold.gaps.tolist() == [-1, -1]


def test_trained_candidates_are_ordered_by_train_events() -> None:
    log = [[(1, 3), (2, 2), (3, 2), (61, 1)], [(4, 5), (70, 3)]]
    assert build(log, TIME_SPLIT).candidates.tolist() == [2, 3, 5]
    assert build(log, TIME_SPLIT, candidates="catalogue").candidates.tolist() == [2, 3, 5, 1, 4]


def test_the_unknown_item_is_never_a_candidate() -> None:
    log = [[(1, 0), (2, 0), (3, 1), (61, 1)]]
    assert build(log, TIME_SPLIT).candidates.tolist() == [1]
    assert 0 not in build(log, TIME_SPLIT, candidates="catalogue").candidates


def test_leave_last_out_asks_just_after_the_history() -> None:
    log = [[(10, 1), (20, 2), (30, 3), (90, 4)], [(1, 1), (2, 2)]]
    test = build(log, LEAVE_LAST_OUT)
    assert test.users.tolist() == [1]
    assert test.request_times.tolist() == [31]
    assert test.gaps.tolist() == [60]


@pytest.mark.parametrize(("phase", "start"), [("validation", 30), ("test", 60)])
def test_time_split_asks_at_the_start_of_the_phase(phase: str, start: int) -> None:
    assert set(build(LOG, TIME_SPLIT, phase=phase).request_times.tolist()) == {start}


def test_gap_is_measured_from_the_last_known_event() -> None:
    assert build(LOG, TIME_SPLIT).gaps.tolist() == [30, 32, 33, 34, 30]


def test_history_positions_of_a_batch_leave_out_what_is_no_candidate() -> None:
    log = [[(1, 2), (2, 2), (31, 4), (61, 1)], [(1, 0), (3, 3), (40, 2), (62, 1)], [(4, 1), (61, 2)]]
    test = build(log, TIME_SPLIT)
    assert test.candidates.tolist() == [2, 1, 3]
    rows, positions = test.history_positions(0, 2)  # item 4 has no train event
    assert list(zip(rows.tolist(), positions.tolist(), strict=True)) == [(0, 0), (0, 0), (1, 2), (1, 0)]
    rows, positions = test.history_positions(2, 3)
    assert list(zip(rows.tolist(), positions.tolist(), strict=True)) == [(0, 1)]


def test_slices_of_popularity_are_disjoint_and_complete() -> None:
    named = slices(np.array([0, 3, 9, -1]), np.array([5, 60, 61, -1]), 60)
    assert {name: mask.tolist() for name, mask in named.items()} == {
        "head": [True, False, False, False],
        "tail": [False, True, True, False],
        "unseen": [False, False, False, True],
        "gap >= 60 s": [False, True, True, False],
    }


@given(logs(ITEMS))
def test_new_items_are_ranked_among_themselves(log: Log) -> None:
    catalogue = build(log, TIME_SPLIT, candidates="catalogue")
    new = catalogue.of_new_items()
    trained = {item for user in log for time, item in user if time < 30}
    fresh = [item for item in range(1, ITEMS + 1) if item not in trained]
    assert new.candidates.tolist() == fresh
    every = zip(
        catalogue.users.tolist(),
        per_user(catalogue.history_offsets, catalogue.history_items),
        per_user(catalogue.target_offsets, catalogue.target_items),
        strict=True,
    )
    expected = [(user, seen, kept) for user, seen, all_ in every if (kept := [t for t in all_ if t in fresh])]
    histories, targets = (
        per_user(new.history_offsets, new.history_items),
        per_user(new.target_offsets, new.target_items),
    )
    assert list(zip(new.users.tolist(), histories, targets, strict=True)) == expected
    assert len(new.request_times) == len(expected)
    assert len(new.gaps) == len(new.target_items)


def test_cold_start_slices_say_what_was_known_of_item_and_user() -> None:
    log = [[(n, 1) for n in range(5)] + [(61, 2), (62, 3)], [(6, 2), (63, 1)]]
    assert {name: mask.tolist() for name, mask in cold_start_slices(build(log, TIME_SPLIT)).items()} == {
        "item never seen": [False, True, False],
        "item of 1-4 clicks": [True, False, False],
        "item of 5+ clicks": [False, False, True],
        "user of 1-4 events": [False, False, True],
        "user of 5+ events": [True, True, False],
    }
    cold = build([[(61, 1)], [(1, 1), (62, 2)]], TIME_SPLIT, users="cold")
    assert list(cold_start_slices(cold)) == ["item of 1-4 clicks", "user without history"]


def test_a_time_split_has_all_parts() -> None:
    parts = evaluated_parts(sequences(LOG, TIME_SPLIT), ITEMS + 1, TIME_SPLIT, "test")
    assert list(parts) == ["trained", "catalogue", "new_items", "cold_users"]


def test_leave_last_out_has_new_items_where_there_are_any() -> None:
    log = [[(1, 1), (2, 2), (3, 2)], [(1, 2), (2, 1), (3, 1)]]
    assert list(evaluated_parts(sequences(log, LEAVE_LAST_OUT), ITEMS + 1, LEAVE_LAST_OUT, "test")) == ["trained"]
    log[0][2] = (3, 4)
    parts = evaluated_parts(sequences(log, LEAVE_LAST_OUT), ITEMS + 1, LEAVE_LAST_OUT, "test")
    assert list(parts) == ["trained", "catalogue", "new_items"]
    assert parts["new_items"].target_items.tolist() == [4]


@pytest.mark.parametrize("split", [TIME_SPLIT, LEAVE_LAST_OUT])
def test_before_refit_gives_the_validation_part_back(split: SplitConfig) -> None:
    refit = split.model_copy(update={"refit": True})
    cut_again, _ = before_refit(sequences(LOG, refit), refit)
    expected = sequences(LOG, split)
    assert cut_again.train_end.tolist() == expected.train_end.tolist()
    assert cut_again.validation_end.tolist() == expected.validation_end.tolist()


def test_before_refit_says_what_it_lacks() -> None:
    split = SplitConfig(kind="time", test_start="1970-01-01T00:01:00", refit=True)
    with pytest.raises(ConfigError, match=r"split\.validation_start"):
        before_refit(sequences(LOG, split), split)


@given(logs(ITEMS), st.sampled_from([TIME_SPLIT, LEAVE_LAST_OUT]), st.sampled_from(["validation", "test"]))
def test_matches_a_loop_over_users(log: Log, split: SplitConfig, phase: str) -> None:
    built = build(log, split, phase=phase)
    expected = []
    for number, user in enumerate(log, start=1):
        if split.kind == "time":
            start, stop = (30, 60) if phase == "validation" else (60, 1000)
            history, part = [e for e in user if e[0] < start], [e for e in user if start <= e[0] < stop]
        else:
            place = len(user) - (1 if phase == "test" else 2)
            history, part = (user[:place], user[place : place + 1]) if len(user) >= 3 else (user, [])
        targets: list[int] = []
        for _, item in part:
            if item == 0 or item not in targets:
                targets.append(item)
        if history and targets:
            expected.append((number, [item for _, item in history], targets))
    assert built.users.tolist() == [number for number, _, _ in expected]
    assert per_user(built.history_offsets, built.history_items) == [history for _, history, _ in expected]
    assert per_user(built.target_offsets, built.target_items) == [targets for _, _, targets in expected]
    seen = [bool(item) and item in history for _, history, targets in expected for item in targets]
    assert built.target_seen.tolist() == seen


def test_a_split_without_a_test_gives_an_empty_set() -> None:
    built = build(LOG, SplitConfig(kind="none"))
    assert len(built) == 0
    assert (built.history_offsets.tolist(), built.target_offsets.tolist()) == ([0], [0])
