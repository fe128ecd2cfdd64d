"""Importing a log that arrives in files: what is read again, what changes, and what a killed import leaves."""

from pathlib import Path
from typing import Any

import pytest
from importer_fixtures import assert_nothing_lost, events_of, import_config, import_files, rejects_of

from pipeline import write_tables
from pipeline.artifacts import open_artifact
from pipeline.errors import ArtifactError, InputError
from pipeline.local_disk import LOCK, locked
from pipeline.storage import is_remote, subfolders
from pipeline.tables import EVENTS_KIND, EVENTS_VERSION, WHOLE_LOG, Tables

DAY = 86_400
HEADER = "user_id,item_id,timestamp\n"
TABLE = {"events": "day-*.csv", "items": "items.csv"}
FILES = {
    "items.csv": "item_id\na\nb\n",
    "day-1.csv": f"{HEADER}u,a,5\nu,b,6\n",
    "day-2.csv": f"{HEADER}u,a,{DAY}\nv,z,{DAY + 1}\n",
}
LATE = {"day-3.csv": f"{HEADER}w,a,7\nw,b,{2 * DAY}\n"}


def import_days(folder: Path, files: dict[str, str], partition: str = "day", **source: Any) -> Tables:
    return import_files(folder, files, format="table", table=TABLE, partition=partition, **source)


def event_artifacts(folder: Path) -> dict[str, str]:
    """Folder -> run of all events there are."""
    folders = subfolders(folder / "work" / "events", "")
    return {path.name: open_artifact(path, EVENTS_KIND, EVENTS_VERSION).dir.name for path in folders}


def fingerprints(tables: Tables) -> dict[str, str]:
    return {day: tables.day_fingerprint(day) for day in tables.days}


def test_events_are_kept_by_utc_date(tmp_path: Path) -> None:
    tables = import_days(tmp_path, FILES | LATE)
    assert list(tables.days) == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert [len(parts) for parts in tables.days.values()] == [2, 1, 1]
    assert tables.event_parts == [part for parts in tables.days.values() for part in parts]
    assert events_of(tables)[:3] == [("u", "a", 5), ("u", "b", 6), ("w", "a", 7)]
    assert tables.artifact.counts["events"] == 6
    assert tables.artifact.counts["events_without_catalogue_item"] == 1
    assert_nothing_lost(tables)
    with pytest.raises(KeyError):
        tables.day_fingerprint("1970-01-04")


def test_generated_logs_are_kept_by_date_too(tmp_path: Path) -> None:
    demo = {"users": 50, "items": 60, "events": 500, "days": 5}
    tables = import_config({"workdir": str(tmp_path), "source": {"partition": "day", "demo": demo}})
    assert list(tables.days) == [f"2024-01-0{day}" for day in range(1, 6)]
    assert len(events_of(tables)) == 500


def test_without_a_partition_the_log_is_one_piece(tmp_path: Path) -> None:
    tables = import_days(tmp_path, FILES, partition="none")
    assert list(tables.days) == [WHOLE_LOG]
    assert [part.parent.name for part in tables.event_parts] == ["date=all"] * 2
    assert len(events_of(tables)) == 4


def test_a_new_file_costs_itself_and_changes_the_days_it_has_events_of(tmp_path: Path) -> None:
    before, read = import_days(tmp_path, FILES), event_artifacts(tmp_path)
    after = import_days(tmp_path, LATE)
    assert event_artifacts(tmp_path).items() > read.items()
    old, new = fingerprints(before), fingerprints(after)
    assert [day for day in new if new[day] != old.get(day)] == ["1970-01-01", "1970-01-03"]
    assert after.artifact.counts["events"] == 6


def test_the_catalogue_is_read_when_its_file_changes(tmp_path: Path) -> None:
    def run() -> str:
        return open_artifact(tmp_path / "work" / "catalogue", "catalogue", 1).dir.name

    import_days(tmp_path, FILES)
    before = run()
    import_days(tmp_path, LATE)
    assert run() == before
    tables = import_days(tmp_path, {"items.csv": "item_id\na\n"})
    assert run() != before
    assert tables.artifact.counts["events_without_catalogue_item"] == 3


def test_altered_and_removed_files_are_reflected(tmp_path: Path) -> None:
    before = fingerprints(import_days(tmp_path, FILES | LATE))
    altered = import_days(tmp_path, {"day-1.csv": f"{HEADER}u,a,5\n"})
    assert [event[:2] for event in events_of(altered)] == [("u", "a"), ("w", "a"), ("u", "a"), ("v", "z"), ("w", "b")]
    assert [day for day, old in before.items() if altered.day_fingerprint(day) != old] == ["1970-01-01"]
    (tmp_path / "raw" / "day-1.csv").unlink()
    (tmp_path / "raw" / "day-2.csv").unlink()
    assert [event[0] for event in events_of(import_days(tmp_path, {}))] == ["w", "w"]


def test_other_settings_of_events_read_them_again_and_those_of_items_do_not(tmp_path: Path) -> None:
    import_days(tmp_path, FILES)
    read = event_artifacts(tmp_path)
    import_files(tmp_path, {}, format="table", partition="day", table=TABLE | {"items_id": "item_id"})
    assert event_artifacts(tmp_path) == read
    import_days(tmp_path, {}, partition="none")
    assert not event_artifacts(tmp_path).items() <= read.items()


def test_a_file_under_another_name_is_not_read_again(tmp_path: Path) -> None:
    before = import_days(tmp_path, FILES | {"day-2.csv": f"{HEADER}u,a,{DAY}\nv,,{DAY + 1}\n"})
    read = event_artifacts(tmp_path)
    (tmp_path / "raw" / "day-2.csv").rename(tmp_path / "raw" / "day-0.csv")
    tables = import_days(tmp_path, {})
    assert event_artifacts(tmp_path) == read
    assert fingerprints(tables) == fingerprints(before)
    assert rejects_of(tables) == [("day-0.csv", 3, "missing_item_id", f"v,,{DAY + 1}")]
    assert set(tables.artifact.counts["records"]) == {"items.csv", "day-0.csv", "day-1.csv"}


def test_a_file_that_comes_twice_counts_twice(tmp_path: Path) -> None:
    tables = import_days(tmp_path, FILES | {"day-1-again.csv": FILES["day-1.csv"]})
    assert len(event_artifacts(tmp_path)) == 2
    assert events_of(tables)[:4] == [("u", "a", 5), ("u", "b", 6)] * 2
    assert_nothing_lost(tables)


def test_the_tables_move_with_their_folder(tmp_path: Path) -> None:
    import_days(tmp_path, FILES)
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    assert len(events_of(Tables.read(tmp_path / "elsewhere" / "tables"))) == 4


def test_events_no_tables_name_are_removed_but_those_of_the_tables_before(tmp_path: Path) -> None:
    import_days(tmp_path, FILES)
    first = import_days(tmp_path, {"day-1.csv": f"{HEADER}u,a,1\n"})
    assert len(event_artifacts(tmp_path)) == 3
    import_days(tmp_path, {"day-1.csv": f"{HEADER}u,a,2\n"})
    assert len(event_artifacts(tmp_path)) == 3
    assert events_of(first)[0] == ("u", "a", 1)


def test_a_file_that_is_refused_leaves_the_last_good_tables(tmp_path: Path) -> None:
    before = import_days(tmp_path, FILES)
    with pytest.raises(InputError, match=r"day-3\.csv"):
        import_days(tmp_path, {"day-1.csv": f"{HEADER}u,a,1\n", "day-3.csv": "user_id,item_id,time\n1,2,3\n"})
    after = Tables.read(before.artifact.path)
    assert events_of(after) == events_of(before)
    assert after.artifact.manifest == before.artifact.manifest


def test_an_import_killed_before_it_publishes_leaves_the_last_good_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = import_days(tmp_path, FILES)
    with monkeypatch.context() as context:
        context.setattr(write_tables, "_counts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_days(tmp_path, {"day-1.csv": f"{HEADER}u,a,1\n"})
    assert events_of(Tables.read(before.artifact.path)) == events_of(before)
    assert events_of(import_days(tmp_path, {}))[0] == ("u", "a", 1)


def test_lost_events_are_told_and_read_again(tmp_path: Path) -> None:
    tables = import_days(tmp_path, FILES)
    lost = tables.event_parts[0]
    lost.unlink()
    with pytest.raises(ArtifactError, match=r"part-00000\.parquet is missing or truncated"):
        _ = Tables.read(tables.artifact.path).days
    assert import_days(tmp_path, {}).artifact.manifest == tables.artifact.manifest
    assert len(events_of(Tables.read(tables.artifact.path))) == 4


def test_two_imports_at_a_time_are_refused(tmp_path: Path) -> None:
    tables = import_days(tmp_path, FILES)
    with (
        locked(tmp_path / "work" / "events" / LOCK),
        pytest.raises(ArtifactError, match=r"another process is importing"),
    ):
        import_days(tmp_path, LATE)
    assert Tables.read(tables.artifact.path).artifact.manifest == tables.artifact.manifest


def test_tables_may_lie_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    source = {"format": "table", "path": str(tmp_path / "raw"), "table": TABLE, "partition": "day"}
    config = {"workdir": f"memory://{tmp_path.name}/work", "source": source}
    here = import_days(tmp_path, FILES)
    there = import_config(config)
    assert all(is_remote(part) for part in there.event_parts)
    assert events_of(there) == events_of(here)
    assert fingerprints(there) == fingerprints(here)
    read = {file.file: there.open_events(file).manifest["run"] for file in there.event_files}
    import_days(tmp_path, LATE)
    late = import_config(config)
    assert fingerprints(late) == fingerprints(import_days(tmp_path, {}))
    assert {file.file: late.open_events(file).manifest["run"] for file in late.event_files}.items() > read.items()


def test_events_of_another_content_are_not_taken_for_those_of_the_tables(tmp_path: Path) -> None:
    tables = import_days(tmp_path / "a", FILES)
    other = import_days(tmp_path / "b", FILES | {"day-1.csv": f"{HEADER}x,y,1\n"})
    folders = [tables.event_parts[0].parents[2], other.event_parts[0].parents[2]]
    folders[0].rename(tmp_path / "away")
    folders[1].rename(folders[0])
    with pytest.raises(ArtifactError, match=r"is not what .* was made of.*Cure"):
        _ = Tables.read(tables.artifact.path).days
