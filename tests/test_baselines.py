"""Baselines against their definitions, computed slowly."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sequence_fixtures import TIME_SPLIT, Log, logs, sequences

from pipeline import baselines
from pipeline.baselines import Ease, Trial, choose, gram_matrix, popularity, recent_popularity
from pipeline.config import Config, SplitConfig
from pipeline.evaluation_set import EvaluationSet, evaluated_parts
from pipeline.ranking import evaluate

ITEMS = 6
LOG: Log = [
    [(1, 1), (2, 2), (20, 3), (40, 4), (61, 5), (62, 2)],
    [(3, 2), (4, 2), (25, 3), (35, 5), (70, 3)],
    [(5, 1), (6, 5), (27, 2), (55, 1), (66, 6)],
]


def phase_set(log: Log, split: SplitConfig = TIME_SPLIT, candidates: str = "catalogue") -> EvaluationSet:
    return EvaluationSet.build(sequences(log, split), ITEMS + 1, split, candidates=candidates)


def test_popularity_scores_by_train_events() -> None:
    built = phase_set(LOG)
    scores = popularity(built)(0, 2)
    expected = {1: 2, 2: 4, 3: 2, 4: 0, 5: 1, 6: 0}
    assert scores.tolist() == [[expected[item] for item in built.candidates.tolist()]] * 2


@given(
    logs(ITEMS),
    st.sampled_from([TIME_SPLIT, SplitConfig()]),
    st.sampled_from(["validation", "test"]),
    st.integers(1, 60),
)
@example([[(0, 1), (1, 0), (1, 0), (1, 0)], [(0, 0), (0, 0), (0, 0)]], SplitConfig(), "validation", 1)
def test_recent_popularity_counts_the_window_before_each_request(
    log: Log, split: SplitConfig, phase: str, days: int
) -> None:
    events = sequences(log, split)
    built = EvaluationSet.build(events, ITEMS + 1, split, phase, "catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "DAY", 1)
        scores = recent_popularity(events, built, days)(0, len(built))
    before, _ = baselines.phase_bounds(events, phase)
    known = [
        (events.timestamps[row], events.items[row])
        for user in range(len(events))
        for row in range(events.offsets[user], before[user])
    ]
    for user in range(len(built)):
        stop = built.request_times[user]
        expected = [
            sum(stop - days <= time < stop and item == candidate for time, item in known)
            for candidate in built.candidates
        ]
        assert scores[user].tolist() == expected


def test_recent_popularity_never_sees_the_evaluated_phase() -> None:
    quiet = [[event for event in user if event[0] < 60] + [(80, 6)] for user in LOG]
    events, again = sequences(LOG, TIME_SPLIT), sequences(quiet, TIME_SPLIT)
    first, second = (
        recent_popularity(events, phase_set(LOG), 1)(0, 3),
        recent_popularity(again, phase_set(quiet), 1)(0, 3),
    )
    assert first.tolist() == second.tolist()


def test_gram_matrix_counts_users_who_clicked_both_in_training() -> None:
    events, built = sequences(LOG, TIME_SPLIT), phase_set(LOG)
    train = [{1, 2, 3}, {2, 3}, {1, 5, 2}]
    trained = built.candidates[: len({item for user in train for item in user})].tolist()
    expected = [[sum(a in user and b in user for user in train) for b in trained] for a in trained]
    assert gram_matrix(events, built).tolist() == expected


def closed_form(gram: np.ndarray, ridge: float) -> np.ndarray:
    """B column by column: least squares of every item on the others, with a ridge (Steck 2019, eq. 1 and 2)."""
    gram = gram.astype(np.float64)
    weights = np.zeros_like(gram)
    for item in range(len(gram)):
        others = [i for i in range(len(gram)) if i != item]
        square = gram[np.ix_(others, others)] + ridge * np.eye(len(others))
        weights[others, item] = np.linalg.solve(square, gram[others, item])
    return weights


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 10.0, 300.0]))
def test_ease_is_the_ridge_regression_of_each_item_on_the_others(seed: int, ridge: float) -> None:
    clicks = (np.random.default_rng(seed).random((12, 5)) < 0.5).astype(np.float32)
    gram = clicks.T @ clicks
    assert Ease.fit(gram, ridge).weights == pytest.approx(closed_form(gram, ridge), abs=1e-4)


@pytest.mark.parametrize("last", [None, 1, 2, 10])
def test_ease_adds_the_weights_of_the_distinct_items_of_the_history(last: int | None) -> None:
    events, built = sequences(LOG, TIME_SPLIT), phase_set(LOG)
    ease = Ease.fit(gram_matrix(events, built), 1.0)
    trained = len(ease.weights)
    scores = ease.score(built, last)(0, len(built))
    for user in range(len(built)):
        history = built.history_items[built.history_offsets[user] : built.history_offsets[user + 1]].tolist()
        known = [built.candidates.tolist().index(item) for item in history]
        known = [position for position in known if position < trained]
        used = set(known if last is None else known[-last:])
        expected = sum((ease.weights[position] for position in used), np.zeros(trained))
        assert scores[user, :trained] == pytest.approx(expected)
        assert not scores[user, trained:].any()


def test_ease_of_a_batch_equals_ease_of_one_user() -> None:
    events, built = sequences(LOG, TIME_SPLIT), phase_set(LOG)
    score = Ease.fit(gram_matrix(events, built), 1.0).score(built, 2)
    single = np.concatenate([score(user, user + 1) for user in range(len(built))])
    assert single == pytest.approx(score(0, len(built)))


def test_ease_of_a_cold_user_orders_by_popularity() -> None:
    log = [*LOG, [(75, 2)]]
    events = sequences(log, TIME_SPLIT)
    cold = EvaluationSet.build(events, ITEMS + 1, TIME_SPLIT, users="cold")
    ease = Ease.fit(gram_matrix(events, cold), 1.0)
    assert evaluate(cold, ease.score(cold), [1]).ranks.tolist() == [1]


def test_the_best_trial_is_chosen_and_of_equals_the_first() -> None:
    tried = [Trial("a", {"x": 1}, 0.2), Trial("a", {"x": 2}, 0.5), Trial("b", {}, 0.1), Trial("a", {"x": 3}, 0.5)]
    assert choose(tried) == {"a": tried[1], "b": tried[2]}


def small_config(tmp_path: Path, **split: object) -> Config:
    return Config.model_validate(
        {
            "workdir": str(tmp_path),
            "split": {**TIME_SPLIT.model_dump(), **split},
            "evaluate": {"at": [1, 3], "recent_days": [1, 2]},
            "train": {"monitor": 2},
        }
    )


def test_run_ranks_every_part_and_is_kept_for_the_next_model(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    events = sequences(LOG, TIME_SPLIT)
    parts = evaluated_parts(events, ITEMS + 1, TIME_SPLIT, "test")
    first = baselines.run(config, events, parts, {"user_sequences": "x"})
    assert list(first.labels) == ["popularity", "recent_popularity", "ease", "ease_last"]
    expected = evaluate(parts["catalogue"], popularity(parts["catalogue"]), [3])
    assert first.rankings["catalogue"]["popularity"].ranks.tolist() == expected.ranks.tolist()
    assert first.rankings["catalogue"]["popularity"].best_positions.tolist() == expected.best_positions.tolist()
    assert {part: list(ranked) for part, ranked in first.rankings.items()} == {
        part: list(first.labels) for part in parts
    }
    again = baselines.run(config, events, parts, {"user_sequences": "x"})
    assert again.artifact.manifest == first.artifact.manifest
    changed = baselines.run(config, events, parts, {"user_sequences": "y"})
    assert changed.artifact.manifest["run"] != first.artifact.manifest["run"]


def test_run_tunes_on_the_validation_part_although_the_split_refits(tmp_path: Path) -> None:
    refit = small_config(tmp_path / "a", refit=True)
    plain = small_config(tmp_path / "b")
    tried = []
    for config in (refit, plain):
        events = sequences(LOG, config.split)
        parts = evaluated_parts(events, ITEMS + 1, config.split, "test")
        settings = baselines.run(config, events, parts, {}).artifact.file("settings.json")
        tried.append(json.loads(settings.read_text())["trials"])
    assert tried[0] == tried[1]


def test_ease_is_left_out_of_a_catalogue_too_large_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_EASE_ITEMS", 2)
    config, events = small_config(tmp_path), sequences(LOG, TIME_SPLIT)
    parts = evaluated_parts(events, ITEMS + 1, TIME_SPLIT, "test")
    assert list(baselines.run(config, events, parts, {}).labels) == ["popularity", "recent_popularity"]
