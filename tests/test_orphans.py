"""pipeline/artifacts.py: runs that nobody finished are collected, and those that somebody still writes are not."""

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.artifacts import Spec, create, current, open_artifact
from pipeline.errors import ArtifactError
from pipeline.local_disk import LOCK
from pipeline.manifest import MANIFEST
from pipeline.storage import Location, is_remote, locate, sizes, subfolders, write_part

SPEC = Spec("thing", 1)


def make(path: Location, spec: Spec = SPEC) -> str:
    """Write the artefact; returns its run."""
    with create(path, spec) as draft:
        put(draft.target / "part-0")
    return open_artifact(path, spec.kind, spec.version).manifest["run"]


def put(path: Location) -> None:
    write_part(path, lambda aside: Path(aside).write_text("text", encoding="utf-8"))


def runs(path: Location) -> set[str]:
    return {run.name for run in subfolders(path, "run=")}


@pytest.fixture
def no_age(monkeypatch):
    """Remote orphans are collected at once."""
    monkeypatch.setattr(artifacts, "ORPHAN_AGE", timedelta(0))


def test_only_the_current_run_and_the_one_before_are_kept(place, no_age):
    made = [make(place / "a") for _ in range(4)]
    assert runs(place / "a") == set(made[-2:])


def test_the_next_run_collects_what_a_killed_one_left(place, no_age):
    make(place / "a")
    put(place / "a" / "run=000000000000" / "deep" / "part-0")
    put(place / "a" / f".{MANIFEST}.12345678")
    made = [make(place / "a") for _ in range(2)]
    assert runs(place / "a") == set(made)
    beside = {name for name in sizes(place / "a") if "/" not in name}
    assert beside == ({MANIFEST, f".{MANIFEST}.12345678"} if is_remote(place) else {MANIFEST, LOCK})


def test_a_stage_that_has_nothing_to_do_collects_too(place, no_age):
    """A stage killed between its manifest and its collecting is current when it is started again."""
    made = [make(place / "a") for _ in range(2)]
    put(place / "a" / "run=000000000000" / "part-0")
    assert current(place / "a", SPEC)
    assert runs(place / "a") == set(made)


def test_readers_collect_nothing(place, no_age):
    make(place / "a")
    put(place / "a" / "run=000000000000" / "part-0")
    open_artifact(place / "a", "thing", 1)
    assert current(place / "a", Spec("thing", 1, config={"other": 1})) is None
    assert len(runs(place / "a")) == 2


# --- two writers of one artefact ---


def test_a_second_local_writer_is_refused_and_the_first_finishes(tmp_path):
    before = make(tmp_path / "a")
    with create(tmp_path / "a", SPEC) as draft:
        put(draft.target / "part-0")
        with pytest.raises(ArtifactError, match="being written by another process"):
            make(tmp_path / "a")
        assert current(tmp_path / "a", SPEC)
    after = open_artifact(tmp_path / "a", "thing", 1)
    after.verify()
    assert runs(tmp_path / "a") == {before, after.manifest["run"]}


def test_a_local_artefact_being_written_is_not_collected_by_who_finds_it_current(tmp_path):
    for _ in range(2):
        make(tmp_path / "a")
    with create(tmp_path / "a", SPEC) as draft:
        assert current(tmp_path / "a", SPEC)
        assert draft.dir.is_dir()


def test_two_remote_writers_leave_each_others_files_alone_and_the_last_manifest_stands(bucket):
    path = locate(bucket) / "a"
    make(path)
    with create(path, SPEC) as first:
        put(first.target / "part-0")
        with create(path, Spec("thing", 1, config={"second": True})) as second:
            put(second.target / "part-1")
        between = open_artifact(path, "thing", 1)
        assert between.config == {"second": True}
        put(first.target / "part-2")
    artifact = open_artifact(path, "thing", 1)
    assert sorted(artifact.manifest["files"]) == ["part-0", "part-2"]
    artifact.verify()
    between.verify()


def test_a_young_remote_run_is_not_collected(bucket):
    path = locate(bucket) / "a"
    put(path / "run=000000000000" / "part-0")
    for _ in range(3):
        make(path)
    assert "run=000000000000" in runs(path)
    assert len(runs(path)) == 4


def test_a_remote_run_is_collected_by_the_age_of_its_youngest_file(bucket, monkeypatch):
    path = locate(bucket) / "a"
    put(path / "run=000000000000" / "part-0")
    modified = type(path.fs).modified

    def a_day_ago(fs, name):
        return modified(fs, name) - (timedelta(days=1) if "000000000000/part-0" in name else timedelta(0))

    monkeypatch.setattr(type(path.fs), "modified", a_day_ago)
    put(path / "run=000000000000" / "part-1")
    make(path)
    assert "run=000000000000" in runs(path)
    (path / "run=000000000000" / "part-1").unlink()
    make(path)
    assert "run=000000000000" not in runs(path)
