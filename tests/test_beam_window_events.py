"""beam_jobs/window_events.py: a window that is moved on is the window made anew, and holds the events of its days."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from beam_fixtures import DAY, START, by_file, log_of_days, run_through, small_config, write_log
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam_events import Event, expected_users, table_of

from beam_jobs import window_events
from beam_jobs.events import UserEvents, in_order
from beam_jobs.window_events import WindowEvents, item_ids, read_events
from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError, JobError

LOG = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 4)), max_size=25)


def config_of(workdir, **prepared: object) -> Config:
    return small_config(workdir, prepare={"partitions": 2, **prepared}, source={"partition": "day"})


def window(config: Config, files: dict[str, pd.DataFrame]) -> Artifact:
    write_log(config, files, partition="day")
    return run_through(config, "window_events")


def users_of(config: Config) -> dict[str, list[tuple[str, int]]]:
    read = WindowEvents.read(config)
    ids, found = item_ids(read.items), {}
    for _, path in read.sources():
        found |= named(read_events(path), ids.to_pylist())
    return found


def named(events: UserEvents, ids: list[str]) -> dict[str, list[tuple[str, int]]]:
    rows = [(ids[item], time) for item, time in zip(events.items.tolist(), events.timestamps.tolist(), strict=True)]
    bounds = events.offsets.tolist()
    return {u: rows[a:b] for u, a, b in zip(events.user_ids.to_pylist(), bounds, bounds[1:], strict=False)}


def expected(events: pd.DataFrame) -> dict[str, list[tuple[str, int]]]:
    return expected_users(list(events[["user_id", "item_id", "timestamp"]].itertuples(index=False, name=None)))


def test_a_window_holds_the_events_of_its_days(tmp_path):
    config, events = config_of(tmp_path, days=2), log_of_days(4)
    artifact = window(config, by_file(events))
    inside = events[events["timestamp"] >= START + 2 * DAY]
    assert users_of(config) == expected(inside)
    assert artifact.counts == {
        "events": len(inside),
        "users": inside["user_id"].nunique(),
        "items": inside["item_id"].nunique(),
        "days_merged": 2,
    }


def test_items_and_users_are_in_order_and_have_events(tmp_path):
    config = config_of(tmp_path)
    artifact = window(config, by_file(log_of_days(3)))
    read = WindowEvents.read(config)
    ids = item_ids(read.items).to_pylist()
    assert ids == sorted(set(ids))
    users = [read_events(path).user_ids.to_pylist() for _, path in read.sources()]
    assert all(own == sorted(set(own)) for own in users)
    assert sum(map(len, users)) == artifact.counts["users"]


def moved_on(files: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return files


def late_event(files: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    late = pd.DataFrame({"user_id": ["u1", "nobody"], "item_id": "late", "timestamp": START + 2 * DAY + 5})
    return {**files, "late.csv": late}


def day_that_vanished(files: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: rows for name, rows in files.items() if name != "day-2.csv"}


@pytest.mark.parametrize("change", [moved_on, late_event, day_that_vanished])
def test_a_window_moved_on_is_the_window_made_anew(tmp_path, change):
    files = by_file(log_of_days(5))
    first = {name: rows for name, rows in files.items() if name != "day-4.csv"}
    daily, fresh = config_of(tmp_path / "daily", days=3), config_of(tmp_path / "fresh", days=3)
    window(daily, first)
    after, anew = window(daily, change(files)), window(fresh, change(files))
    assert after.fingerprint == anew.fingerprint
    assert after.counts["days_merged"] < anew.counts["days_merged"]


def test_a_window_is_moved_on_in_an_object_store(bucket):
    files = by_file(log_of_days(3))
    config = config_of(f"{bucket}/shop", days=2)
    window(config, {name: rows for name, rows in files.items() if name != "day-2.csv"})
    assert window(config, files).counts["days_merged"] == 1
    assert users_of(config) == expected(pd.concat(list(files.values())[1:]))


def test_a_window_goes_back_too(tmp_path):
    files = by_file(log_of_days(5))
    config = config_of(tmp_path, days=3)
    window(config, files)
    before = config_of(tmp_path, days=3, last_day="2023-11-18")
    assert run_through(before, "window_events").counts["days_merged"] == 1
    events = pd.concat(list(files.values())[1:4])
    assert users_of(before) == expected(events)


def test_a_window_grows_at_both_ends(tmp_path):
    files = by_file(log_of_days(5))
    window(config_of(tmp_path, days=1, last_day="2023-11-17"), files)
    config = config_of(tmp_path)
    assert run_through(config, "window_events").counts["days_merged"] == 4
    assert users_of(config) == expected(pd.concat(files.values()))


@pytest.mark.parametrize("other", [{"prepare": {"partitions": 3, "days": 2}}, {"source": {"partition": "none"}}])
def test_a_window_cut_in_another_way_is_made_anew(tmp_path, other):
    files = by_file(log_of_days(3))
    sections = {"prepare": {"partitions": 2}, "source": {"partition": "day"}}
    first, second = (small_config(tmp_path, **of) for of in (sections, {**sections, **other}))
    window(first, files)
    write_log(second, files, partition=second.source.partition)
    artifact = run_through(second, "window_events")
    events = pd.concat(files.values())
    if second.prepare.days is not None:
        events = events[events["timestamp"] >= START + DAY]
    assert users_of(second) == expected(events)
    assert artifact.counts["days_merged"] == len(artifact.config["days"])


def test_a_window_that_another_day_replaced_is_refused(tmp_path):
    files = by_file(log_of_days(3))
    config = config_of(tmp_path)
    window(config, {name: rows for name, rows in files.items() if name != "day-2.csv"})
    write_log(config, files, partition="day")
    run_through(config, "day_events")
    with pytest.raises(ArtifactError, match=r"holds the events of other days. Cure: twotower prepare"):
        WindowEvents.read(config)


def test_a_damaged_window_is_made_anew(tmp_path):
    files = by_file(log_of_days(3))
    config = config_of(tmp_path)
    artifact = window(config, {name: rows for name, rows in files.items() if name != "day-2.csv"})
    part = artifact.parts("events-")[0]
    content = bytearray(part.read_bytes())
    events = read_events(part)
    place = content.index(events.timestamps.tobytes())
    content[place] ^= 1  # one second sooner or later, at the same size
    part.write_bytes(content)
    assert window(config, files).counts["days_merged"] == 3
    assert users_of(config) == expected(pd.concat(files.values()))


def test_events_lost_by_the_runner_stop_the_run(tmp_path, monkeypatch):
    config = config_of(tmp_path)
    whole = window_events.merged
    monkeypatch.setattr(window_events, "merged", lambda *args: whole(*args).select(np.arange(1)))
    with pytest.raises(JobError, match=r"the days have 450 events, but \d+ were written. Nothing was published"):
        window(config, by_file(log_of_days(3)))
    assert not (config.prepared_dir("window_events") / "MANIFEST.json").exists()


@given(LOG, st.sets(st.integers(0, 4)))
@settings(deadline=None)
def test_days_merge_into_complete_users(log: list[Event], new_days: set[int]):
    """Some days are there, others come, and lie before, between and after them."""
    log = [(user, item, day * DAY + 7) for user, item, day in log]
    ids = sorted({item for _, item, _ in log})
    codes = pa.array(ids, pa.string())
    days = {day: [event for event in log if event[2] // DAY == day] for day in range(5)}

    def table(chosen: list[int]) -> pa.Table | None:
        tables = [in_order(table_of(days[day])) for day in chosen if days[day]]
        return pa.concat_tables(tables).unify_dictionaries().combine_chunks() if tables else None

    kept = window_events.merged(UserEvents.nothing(), table([d for d in days if d not in new_days]), codes)
    found = window_events.merged(kept, table([d for d in days if d in new_days]), codes)
    assert list(named(found, ids).items()) == sorted(expected_users(log).items())
