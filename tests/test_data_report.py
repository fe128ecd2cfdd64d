"""pipeline/data_report.py: the report of what there is, what it is compared with, and when it is made anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, write_log

from beam_jobs import (
    day_events,
    mutual_information,
    session_cooccurrence,
    title_neighbours,
    user_sequences,
    window_events,
)
from pipeline import catalogue, data_page, data_report, prepare, stages
from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError

ITEMS, USERS = random_catalogue(seed=42)


def day(number: int, seed: int) -> Any:
    log = random_log(seed, events=150, seconds=80_000)
    return log.assign(timestamp=1_700_006_400 + 86_400 * number + log["timestamp"] - 1_700_000_000)


LOG = {f"day {number}": day(number, seed=41 + number) for number in range(3)}
NEXT = {**LOG, "day 3": day(3, seed=51)}


def prepared(workdir: Path | str, log: dict[str, Any]) -> Config:
    """All jobs but the titles', run over the log, cut by day."""
    config = small_config(workdir)
    write_log(config, log, SCHEMA, ITEMS, USERS, partition="day")
    run_through(config, session_cooccurrence.KIND)
    return config


@pytest.fixture(scope="module")
def one_day(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = prepared(tmp_path_factory.mktemp("one"), LOG)
    data_report.run(config)
    return config


@pytest.fixture(scope="module")
def two_days(one_day: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The day after: the log has a day more."""
    workdir = tmp_path_factory.mktemp("two") / "work"
    shutil.copytree(one_day.workdir, workdir)
    config = prepared(workdir, NEXT)
    data_report.run(config)
    return config


@pytest.fixture
def config(two_days: Config, tmp_path: Path) -> Config:
    """A copy that a test may change."""
    shutil.copytree(two_days.workdir, tmp_path / "work")
    return small_config(tmp_path / "work")


def figures_of(report: Artifact) -> dict[str, Any]:
    return json.loads(report.file("report.json").read_text(encoding="utf-8"))


def test_the_report_holds_figures_page_and_plots(one_day):
    report = data_report.run(one_day)
    figures = figures_of(report)
    page = report.file("report.md").read_text(encoding="utf-8")
    assert page == data_page.markdown(figures)
    assert figures["plots"] == ["events.png", "popularity.png", "histories.png", "mutual_information.png"]
    for name in figures["plots"]:
        assert report.file(name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert f"]({name})" in page
    assert [file["file"] for file in figures["rows"]] == list(LOG)
    assert list(figures["events_a_day"].values()) == [150, 150, 150]
    assert set(figures["missing"]) == {title_neighbours.KIND}
    assert report.counts == {"plots": 4, "warnings": len(figures["warnings"])}


def test_the_first_report_has_only_days_to_compare(one_day):
    figures = figures_of(data_report.run(one_day))
    assert figures["previous"] is None
    assert figures["drift"]["report"] is None
    assert [figures["drift"]["days"][name] for name in ("before", "newest")] == sorted(figures["events_a_day"])[-2:]


def test_the_next_report_is_compared_with_the_one_before(one_day, two_days):
    before, now = (figures_of(data_report.run(config)) for config in (one_day, two_days))
    assert now["previous"] == {name: value for name, value in before.items() if name != "previous"}
    lines = {line["what"]: line for line in now["drift"]["report"]["lines"]}
    assert (lines["events"]["before"], lines["events"]["now"]) == (450, 600)
    assert lines["events"]["value"] == pytest.approx(1 / 3)
    assert (lines["users"]["before"], lines["users"]["now"]) == (before["users"]["kept"], now["users"]["kept"])
    assert 0 < lines["popularity of items"]["value"] < 0.1


def test_a_report_is_skipped_until_something_changes(config, two_days):
    shutil.copytree(two_days.prepared_dir("report"), config.prepared_dir("report"), dirs_exist_ok=True)
    first = data_report.run(config)
    assert data_report.run(config).manifest["run"] == first.manifest["run"]
    config.report.warn_change = 0.1
    again = data_report.run(config)
    assert again.manifest["run"] != first.manifest["run"]
    assert again.counts["warnings"] > first.counts["warnings"]


def test_a_report_on_the_same_data_keeps_what_it_is_compared_with(config):
    first = figures_of(data_report.run(config))
    config.report.warn_change = 0.1
    second = figures_of(data_report.run(config))
    assert second["previous"] == first["previous"]
    values = [[line["value"] for line in of["drift"]["report"]["lines"]] for of in (first, second)]
    assert values[0] == values[1]


def test_the_same_inputs_give_the_same_bytes(one_day, tmp_path):
    first = data_report.run(one_day)
    shutil.copytree(one_day.workdir, tmp_path / "work")
    again = small_config(tmp_path / "work")
    shutil.rmtree(again.prepared_dir("report"))
    assert data_report.run(again).fingerprint == first.fingerprint


def test_tables_alone_make_a_report(tmp_path):
    config = small_config(tmp_path)
    write_log(config, LOG, SCHEMA, ITEMS, USERS)
    figures = figures_of(data_report.run(config))
    assert set(figures["missing"]) == set(data_report.READS)
    assert figures["plots"] == []
    assert figures["imported"]["events"] == 450
    assert any(told.startswith("nothing is told of the vocabularies") for told in figures["warnings"])


def test_no_tables_make_none(tmp_path):
    with pytest.raises(ArtifactError, match="no tables artefact"):
        data_report.run(small_config(tmp_path))


def test_artefacts_of_other_tables_are_not_told_of(config):
    write_log(config, {**NEXT, "day 3": day(3, seed=52)}, SCHEMA, ITEMS, USERS, partition="day")
    figures = figures_of(data_report.run(config))
    assert mutual_information.KIND not in figures["missing"]  # the catalogue is the same
    assert figures["missing"] == {
        day_events.KIND: "made from other tables",
        window_events.KIND: "made from other day events",
        catalogue.KIND: "made from other window events",
        user_sequences.KIND: "made from other window events",
        session_cooccurrence.KIND: "made from other user sequences",
        title_neighbours.KIND: "not made",
    }


def test_a_window_that_lacks_a_day_is_not_told_of(config):
    write_log(config, {**NEXT, "day 4": day(4, seed=61)}, SCHEMA, ITEMS, USERS, partition="day")
    assert figures_of(data_report.run(config))["missing"][day_events.KIND] == "made from other tables"


def test_a_report_without_samples_passes_on_the_one_before(config):
    """`prepare --only day_events` after an import, then all jobs: the comparison is with the day before still."""
    before = figures_of(data_report.run(config))
    later = {**NEXT, "day 4": day(4, seed=61)}
    write_log(config, later, SCHEMA, ITEMS, USERS, partition="day")
    run_through(config, day_events.KIND)
    partial = figures_of(data_report.run(config))
    assert partial["drift"]["report"] is None
    run_through(config, catalogue.KIND)
    full = figures_of(data_report.run(config))
    assert full["previous"]["data"] == partial["previous"]["data"] == before["data"]
    lines = {line["what"]: line for line in full["drift"]["report"]["lines"]}
    assert (lines["events"]["before"], lines["events"]["now"]) == (600, 750)


def test_a_report_lies_in_the_object_store_of_its_artefacts(bucket, one_day):
    config = prepared(f"{bucket}/shop", LOG)
    report = data_report.run(config)
    assert str(report.location("report.md")).startswith(bucket)
    assert figures_of(report)["drift"] == figures_of(data_report.run(one_day))["drift"]
    assert data_report.run(config).manifest["run"] == report.manifest["run"]


def test_prepare_ends_with_the_report_and_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "JOBS", {day_events.KIND: day_events.run})
    config = small_config(tmp_path)
    write_log(config, LOG)
    stages.prepare(config, None, ())
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told[:2]] == ["day_events", "data_report"]
    assert Path(told[2].removeprefix("the data report is ")).read_text(encoding="utf-8").startswith("# Data report")
    assert told[3].startswith("prepare: ")


def test_a_part_of_prepare_has_no_report(tmp_path):
    config = small_config(tmp_path)
    write_log(config, LOG)
    stages.prepare(config, [day_events.KIND], ())
    assert not config.prepared_dir(data_report.FOLDER).exists()
