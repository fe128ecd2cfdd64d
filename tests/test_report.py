"""The figures of a report against the metrics they are made of, and the page and plots that show them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sequence_fixtures import TIME_SPLIT, Log, sequences

from pipeline import report
from pipeline.baselines import popularity
from pipeline.config import Config
from pipeline.evaluation_set import EvaluationSet, evaluated_parts
from pipeline.metrics import UNRANKED
from pipeline.ranking import Ranking, Score, evaluate

ITEMS = 12
PNG = b"\x89PNG\r\n\x1a\n"
LOG: Log = [
    [(1, 1), (2, 2), (3, 1), (61, 3), (62, 9), (63, 1), (64, 3)],
    [(4, 1), (5, 3), (70, 2)],
    [(6, 3), (7, 4), (90, 1), (91, 5)],
    [(65, 1), (66, 2)],
]
LABELS = {"model": "base", "popularity": "popularity"}


def rarest_first(candidates: int) -> Score:
    return lambda start, stop: np.tile(np.arange(candidates), (stop - start, 1))


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "name": "base",
            "split": TIME_SPLIT.model_dump(),
            "evaluate": {"at": [1, 2], "gap_seconds": 63, "bootstrap": 50},
            "train": {"monitor": 2},
        }
    )


@pytest.fixture
def parts() -> dict[str, EvaluationSet]:
    return evaluated_parts(sequences(LOG, TIME_SPLIT), ITEMS + 1, TIME_SPLIT, "test")


@pytest.fixture
def rankings(parts: dict[str, EvaluationSet]) -> dict[str, dict[str, Ranking]]:
    return {
        part: {
            "model": evaluate(built, rarest_first(len(built.candidates)), [2]),
            "popularity": evaluate(built, popularity(built), [2]),
        }
        for part, built in parts.items()
    }


@pytest.fixture
def figures(config: Config, parts: dict[str, EvaluationSet], rankings: dict[str, dict[str, Ranking]]) -> dict[str, Any]:
    return report.build(config, "test", LABELS, parts, rankings)


def test_a_part_is_described_by_its_sizes(figures: dict[str, Any]) -> None:
    trained = figures["parts"]["trained"]
    assert {name: trained[name] for name in list(trained)[:6]} == {
        "users": 3,
        "pairs": 6,
        "candidates": 4,
        "targets_not_candidates": 2,
        "targets_already_seen": 1,
        "repeated_events_merged": 1,
    }
    assert trained["slices"] == {"head": 2, "tail": 2, "unseen": 2, "gap >= 63 s": 3}
    assert figures["parts"]["catalogue"]["targets_not_candidates"] == 0
    assert figures["parts"]["cold_users"]["users"] == 1


def test_figures_of_a_scorer_follow_from_its_ranks(
    figures: dict[str, Any], rankings: dict[str, dict[str, Ranking]]
) -> None:
    # Targets by user (3, 9, 1 | 2 | 1, 5); candidates by popularity 1, 3, 2, 4; seen {1, 2}, {1, 3}, {3, 4}.
    assert rankings["trained"]["popularity"].ranks.tolist() == [1, UNRANKED, UNRANKED, 1, 1, UNRANKED]
    scorer = figures["parts"]["trained"]["scorers"]["popularity"]
    assert scorer["hit"] == {"1": 0.5, "2": 0.5}
    assert scorer["recall"]["2"] == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert scorer["map"]["2"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert scorer["coverage"]["1"] == 0.75
    assert scorer["slices"]["head"]["1"] == 0.5
    assert scorer["slices"]["unseen"]["2"] == 0.0
    assert scorer["deciles"]["1"][1] is None


def test_the_lead_of_the_model_is_the_difference_of_the_hits(figures: dict[str, Any]) -> None:
    for part in figures["parts"].values():
        scorers = part["scorers"]
        for n in ("1", "2"):
            lead = scorers["popularity"]["model_lead"][n]
            assert lead["mean"] == pytest.approx(scorers["model"]["hit"][n] - scorers["popularity"]["hit"][n])
            own = scorers["model"]["hit_interval"][n]
            assert own["mean"] == pytest.approx(scorers["model"]["hit"][n])
            assert own["low"] <= own["mean"] <= own["high"]


def test_the_page_shows_every_part_and_scorer(figures: dict[str, Any]) -> None:
    page = report.markdown(figures)
    assert page.startswith("# base on the test part\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Items seen in training",
        "## The whole catalogue, items never seen in training included",
        "## Items never seen in training, among themselves",
        "## Users without a history",
    ]
    assert "3 users, 6 pairs (head 2, tail 2, unseen 2, gap >= 63 s 3), 4 candidates." in page
    assert "so are 1 that the user had already seen; 1 repeated events count once." in page
    tables = [line for line in page.splitlines() if line.startswith("| popularity |")]
    assert tables[0].startswith("| popularity | .5000 | .5000 | 1.0000 |")
    assert len(tables) == 16
    assert "| item never seen (2) | item of 1-4 clicks (4) | user of 1-4 events (6) |" in page
    assert tables[1] == "| popularity | .0000 | .7500 | .5000 |"


def test_unseen_targets_have_a_column_where_a_list_can_hold_them(figures: dict[str, Any]) -> None:
    headers = [line for line in report.markdown(figures).splitlines() if "coverage@2" in line]
    assert ["HIT@2 unseen" in header for header in headers] == [False, True, True, False]


def test_every_row_of_a_table_has_the_cells_of_its_header(figures: dict[str, Any]) -> None:
    for block in report.markdown(figures).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_write_leaves_json_page_and_plots(
    tmp_path: Path,
    figures: dict[str, Any],
    rankings: dict[str, dict[str, Ranking]],
) -> None:
    report.write(tmp_path, figures, rankings)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert (tmp_path / "report.md").read_text() == report.markdown(figures)
    for name in ("hit_curve.png", "deciles.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
        assert f"]({name})" in report.markdown(figures)


def test_a_model_that_never_hits_can_be_drawn(tmp_path: Path, config: Config, parts: dict[str, EvaluationSet]) -> None:
    nothing = {
        part: {"model": Ranking(np.full(len(b.target_items), UNRANKED, np.int32), np.full(len(b.candidates), UNRANKED))}
        for part, b in parts.items()
    }
    figures = report.build(config, "test", {"model": "base"}, parts, nothing)
    report.write(tmp_path, figures, nothing)
    assert figures["parts"]["trained"]["scorers"]["model"]["hit"] == {"1": 0.0, "2": 0.0}
