"""beam_jobs/day_events.py and the jobs on top of it: days coded once, windows, late and hostile events."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from beam_fixtures import DAY, START, by_file, log_of_days, run_through, small_config, write_log

from beam_jobs import day_events
from beam_jobs.batch_files import read_batch
from beam_jobs.events import STRINGS
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.errors import ConfigError, JobError
from pipeline.prepare import prepare
from pipeline.sequences import UserSequences

MERGED = ("vocabularies", "user_sequences", "session_cooccurrence")


def config_of(workdir, **prepared: object) -> Config:
    split = {"kind": "none", "min_events": 2}
    return small_config(workdir, split=split, prepare={"partitions": 2, **prepared}, source={"partition": "day"})


def fingerprints(config: Config) -> dict[str, str]:
    artifacts = prepare(config, only=["day_events", "window_events", "catalogue_counts", *MERGED])
    return {name: artifacts[name].fingerprint for name in MERGED}


def coded(config: Config) -> list[tuple[str, str, int]]:
    """The events of the window, a day after the other."""
    rows = []
    for day in day_events.Window.read(config).days:
        for part in day.parts("events-"):
            table = read_batch(part)
            rows += zip(*(table[name].to_pylist() for name in (*STRINGS, "timestamp")), strict=True)
    return rows


def rows_of(events: pd.DataFrame) -> list[tuple[str, str, int]]:
    return list(zip(events["user_id"], events["item_id"], events["timestamp"], strict=True))


def test_a_day_holds_its_own_events(tmp_path):
    config, events = config_of(tmp_path), log_of_days(3)
    write_log(config, by_file(events), partition="day")
    run_through(config, "day_events")
    assert sorted(coded(config)) == sorted(rows_of(events))
    for day in day_events.Window.read(config).days:
        for part in day.parts("events-"):
            dates = set(read_batch(part)["timestamp"].to_numpy() // DAY)
            assert dates == {np.datetime64(day.path.name.removeprefix("date=")).astype(int)}


def test_a_new_day_codes_that_day_only_and_gives_what_a_fresh_run_gives(tmp_path):
    events = log_of_days(4)
    files = by_file(events)
    daily = config_of(tmp_path / "daily", days=3)
    write_log(daily, dict(list(files.items())[:3]), partition="day")
    fingerprints(daily)
    write_log(daily, files, partition="day")
    assert run_through(daily, "day_events").counts["days_coded"] == 1
    fresh = config_of(tmp_path / "fresh", days=3)
    write_log(fresh, files, partition="day")
    assert fingerprints(daily) == fingerprints(fresh)
    assert run_through(fresh, "day_events").counts["days_coded"] == 3


def test_one_log_or_many_days_give_the_same_artefacts(tmp_path):
    events = log_of_days(3)
    found = []
    for partition in ("none", "day"):
        config = config_of(tmp_path / partition)
        write_log(config, events, partition=partition)
        found.append(fingerprints(config))
    assert found[0] == found[1]


def test_a_late_event_codes_its_own_day_again(tmp_path):
    config, events = config_of(tmp_path), log_of_days(4)
    write_log(config, by_file(events), partition="day")
    before = {day.path.name: day.manifest["run"] for day in _days(config)}
    late = pd.DataFrame({"user_id": ["u1"], "item_id": ["late"], "timestamp": [START + DAY + 5]})
    write_log(config, {**by_file(events), "late.csv": late}, partition="day")
    after = {day.path.name: day.manifest["run"] for day in _days(config)}
    assert {name for name in after if after[name] != before[name]} == {"date=2023-11-16"}
    assert ("u1", "late", START + DAY + 5) in coded(config)


def _days(config: Config) -> tuple:
    run_through(config, "day_events")
    return day_events.Window.read(config).days


@pytest.mark.parametrize(
    ("prepared", "expected"),
    [({"days": 2}, [2, 3]), ({"days": 2, "last_day": "2023-11-16"}, [0, 1]), ({"last_day": "2023-11-17"}, [0, 1, 2])],
)
def test_the_window_ends_with_the_last_day(tmp_path, prepared, expected):
    config, events = config_of(tmp_path, **prepared), log_of_days(4)
    write_log(config, by_file(events), partition="day")
    run_through(config, "day_events")
    assert sorted({(timestamp - START) // DAY for *_, timestamp in coded(config)}) == expected


def test_a_day_without_events_is_no_day_of_the_log(tmp_path):
    events = log_of_days(3)
    config = config_of(tmp_path, days=3)
    write_log(config, by_file(events[(events["timestamp"] - START) // DAY != 1]), partition="day")
    assert run_through(config, "day_events").counts["days"] == 2


@pytest.mark.parametrize(
    ("partition", "prepared", "cure"),
    [
        ("none", {"days": 3}, "set `source.partition` to `day`"),
        ("day", {"days": 1, "last_day": "2020-01-01"}, "the log has 2023-11-15 to 2023-11-17"),
    ],
)
def test_a_window_that_cannot_be_is_refused(tmp_path, partition, prepared, cure):
    config = config_of(tmp_path, **prepared)
    write_log(config, log_of_days(3), partition=partition)
    with pytest.raises(ConfigError, match=cure):
        day_events.run(config)


def test_a_session_that_crosses_midnight_is_one_session(tmp_path):
    events = pd.DataFrame(
        {"user_id": "u", "item_id": ["a", "b", "c"], "timestamp": [START + DAY - 60, START + DAY + 60, START + 2 * DAY]}
    )
    config = config_of(tmp_path)
    write_log(config, events, partition="day")
    artifact = run_through(config, "session_cooccurrence")
    assert (artifact.counts["sessions"], artifact.counts["pairs"]) == (2, 1)


@pytest.mark.parametrize(("treatment", "kept"), [("keep", 4), ("drop", 2)])
def test_duplicates_are_counted_and_kept_or_dropped(tmp_path, treatment, kept):
    one, other = ("u", "a", START), ("u", "b", START)
    events = pd.DataFrame([one, other, one, one], columns=[*STRINGS, "timestamp"])
    config = config_of(tmp_path, duplicate_events=treatment)
    write_log(config, events, partition="day")
    counts = run_through(config, "day_events").counts
    assert (counts["events"], counts["duplicate_events"]) == (kept, 2)
    assert sorted(set(coded(config))) == [one, other]


def test_the_order_of_the_log_does_not_matter(tmp_path):
    events = log_of_days(2)
    found = []
    for name, log in (("sorted", events), ("shuffled", events.sample(frac=1, random_state=3))):
        config = config_of(tmp_path / name)
        write_log(config, log, partition="day")
        found.append(fingerprints(config))
    assert found[0] == found[1]


def test_a_robot_keeps_its_latest_events(tmp_path):
    robot = pd.DataFrame({"user_id": "robot", "item_id": "a", "timestamp": START + np.arange(5000) * 30})
    config = config_of(tmp_path, max_user_events=100)
    write_log(config, pd.concat([log_of_days(2), robot]), partition="day")
    artifact = run_through(config, "user_sequences")
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    read = UserSequences.read(config.prepared_dir("user_sequences"))
    row = known.users.decode(read.users).to_pylist().index("robot")
    assert read.timestamps[read.offsets[row] : read.offsets[row + 1]].tolist() == robot["timestamp"].tolist()[-100:]
    assert artifact.counts["events_cut"] == 4900


def test_recent_sessions_weigh_more(tmp_path):
    rows = [("u", item, START + day * DAY + second) for day in (0, 2) for second, item in enumerate("ab")]
    config = config_of(tmp_path, session={"half_life_days": 1})
    write_log(config, pd.DataFrame(rows, columns=[*STRINGS, "timestamp"]), partition="day")
    artifact = run_through(config, "session_cooccurrence")
    rows = [row for part in artifact.parts("part-") for row in pq.read_table(part).to_pylist()]
    assert [row["weights"] for row in rows] == [[1 + 0.25], [1 + 0.25]]


def test_rare_pairs_are_left_out(tmp_path):
    pairs = enumerate(["ab", "ab", "ac"])  # one an hour, in sessions of their own
    rows = [("u", item, START + hour * 7200 + second) for hour, pair in pairs for second, item in enumerate(pair)]
    config = config_of(tmp_path, session={"min_count": 2})
    write_log(config, pd.DataFrame(rows, columns=[*STRINGS, "timestamp"]), partition="day")
    artifact = run_through(config, "session_cooccurrence")
    assert (artifact.counts["pairs"], artifact.counts["pairs_below_min_count"]) == (1, 1)


def test_a_pipeline_codes_so_many_days_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(day_events, "DAYS_AT_ONCE", 2)
    pipelines = []
    code = day_events.code_days
    monkeypatch.setattr(day_events, "code_days", lambda *args: pipelines.append(args[2]) or code(*args))
    config = config_of(tmp_path)
    write_log(config, by_file(log_of_days(5)), partition="day")
    run_through(config, "day_events")
    assert [[day[-2:] for day in days] for days in pipelines] == [["15", "16"], ["17", "18"], ["19"]]


def test_events_lost_by_the_runner_stop_the_run(tmp_path, monkeypatch):
    config = config_of(tmp_path)
    write_log(config, log_of_days(2), partition="day")
    monkeypatch.setattr(day_events, "in_order", lambda table: day_events.blocks.compact(table.slice(1)))
    with pytest.raises(JobError, match=r"2023-11-15, but \d+ came out of Beam's shuffle"):
        day_events.run(config)
    assert not (config.prepared_dir("day_events") / "date=2023-11-15" / "MANIFEST.json").exists()


def test_the_last_day_is_read_from_text():
    assert small_config("x", prepare={"last_day": "2024-02-29"}).prepare.last_day == date(2024, 2, 29)
