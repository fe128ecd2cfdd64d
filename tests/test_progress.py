"""pipeline/progress.py: what a terminal and a log are told."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import Artifact, Spec, create, open_artifact
from pipeline.progress import bar, say, summarised, summary

NOON = "2026-01-02T12:00:00Z"


def artifact(counts: dict[str, Any]) -> Artifact:
    manifest = {"spec": {"kind": "job"}, "counts": counts, "created": NOON}
    return Artifact(Path("job"), manifest)


def test_a_summary_has_time_rows_rate_and_counters_and_leaves_zeros_out():
    counts = {"items": 5, "pairs": 1234, "items_cut": 0, "train_events": 563_204}
    line = summary(artifact(counts), 12.34)
    assert line == "job: 12.3 s, 563,204 train events (45,600/s), 5 items, 1,234 pairs"


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({}, "job: 2.0 s"),
        ({"rejected": {"missing_id": 2, "too_long": 0}}, "job: 2.0 s, 2 rejected (missing id)"),
        ({"records": {f"{n}.csv": 5 for n in range(9)}}, "job: 2.0 s, 45 records"),
        ({"recall": 0.98765}, "job: 2.0 s, 0.9877 recall"),
        ({"first_event": NOON, "users": 1}, "job: 2.0 s, 1 users"),
        ({"events": 0}, "job: 2.0 s, 0 events (0/s)"),
    ],
)
def test_what_a_summary_shows_of_counters(counts, told):
    assert summary(artifact(counts), 2.0) == told


def test_a_job_too_fast_for_the_clock_has_a_rate_too():
    assert summary(artifact({"events": 7}), 0.0) == "job: 0.0 s, 7 events (7,000/s)"


def test_an_artefact_from_before_is_said_to_be_skipped():
    line = summary(artifact({"events": 4, "users": 2}), None)
    assert line == f"job: skipped, unchanged since {NOON}, 4 events, 2 users"


def test_a_stage_ends_with_its_line(tmp_path, capsys):
    def stage() -> Artifact:
        with create(tmp_path / "x", Spec("x", 1)) as draft:
            draft.counts["users"] = 3
        return open_artifact(tmp_path / "x", "x", 1)

    assert summarised(stage).counts == {"users": 3}
    assert capsys.readouterr().err == "x: 0.0 s, 3 users\n"


def test_bars_are_for_terminals(capsys):
    assert list(bar(range(3), desc="counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_the_bar_and_lines_above_it(open_terminal):
    terminal = open_terminal()
    with bar(range(3), desc="counting") as shown:
        for number in shown:
            say(f"at {number}")
    assert "at 2\n" in terminal.getvalue()
    assert "counting: 100%" in terminal.getvalue()
