"""pipeline/artifacts.py: nothing half-written is ever seen, and nothing altered passes for good.

tests/test_orphans.py has the runs that nobody finished, tests/test_kill.py kills at every step.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.errors import ArtifactError
from pipeline.manifest import MANIFEST
from pipeline.storage import Location, file_digest, locate, read_text, remove, replace_text, subfolders, write_part

SPEC = Spec("thing", 1, inputs={"events": "abc"}, config={"size": 3})


def make(path: Location, text: str = "first", spec: Spec = SPEC) -> Artifact:
    with create(path, spec) as draft:
        (draft.dir / "part-0.txt").write_text(text)
        (draft.dir / "deep").mkdir()
        (draft.dir / "deep" / "part-1.txt").write_text(text * 2)
        draft.counts["letters"] = len(text)
    return open_artifact(path, spec.kind, spec.version)


def runs(path: Location) -> list[str]:
    return [run.name for run in subfolders(path, "run=")]


def refusal(path: Location) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, "thing", 1)
    return str(caught.value)


def test_what_was_written_is_read_back(place):
    artifact = make(place / "a")
    assert artifact.file("part-0.txt").read_text() == "first"
    assert artifact.file("deep/part-1.txt").read_text() == "firstfirst"
    assert artifact.counts == {"letters": 5}
    assert artifact.config == {"size": 3}
    artifact.verify()


def test_the_manifest_says_what_made_it(place):
    manifest = make(place / "a").manifest
    assert manifest["spec"] == {"kind": "thing", "version": 1, "inputs": {"events": "abc"}, "config": {"size": 3}}
    assert manifest["files"]["part-0.txt"]["bytes"] == 5
    assert set(manifest) == {"run", "previous", "spec", "files", "counts", "code", "created", "seconds"}


def test_parts_come_in_name_order(place):
    with create(place / "a", SPEC) as draft:
        for number in (2, 0, 1):
            (draft.dir / f"part-{number}").touch()
        (draft.dir / "other").touch()
    assert [p.name for p in open_artifact(place / "a", "thing", 1).parts("part-")] == ["part-0", "part-1", "part-2"]


def test_a_file_it_does_not_hold_is_refused_with_those_it_does(place):
    with pytest.raises(ArtifactError, match=r"no file 'x'.*part-0\.txt"):
        make(place / "a").file("x")


def test_what_workers_write_into_the_target_is_part_of_it(place):
    with create(place / "a", SPEC) as draft:
        write_part(draft.target / "parts" / "part-0", lambda aside: Path(aside).write_text("by a worker"))
        (draft.dir / "part-1").write_text("by the stage")
    artifact = open_artifact(place / "a", "thing", 1)
    assert artifact.file("parts/part-0").read_text() == "by a worker"
    assert artifact.file("part-1").read_text() == "by the stage"
    artifact.verify()


def test_a_part_that_a_dead_worker_left_unfinished_is_no_part_of_it(tmp_path):
    with create(tmp_path / "a", SPEC) as draft:
        write_part(draft.target / "deep" / "part-0", lambda aside: Path(aside).write_text("whole"))
        (draft.dir / "deep" / ".part-1.0123abcd").write_text("half")
    artifact = open_artifact(tmp_path / "a", "thing", 1)
    assert list(artifact.manifest["files"]) == ["deep/part-0"]
    assert [p.name for p in (artifact.dir / "deep").iterdir()] == ["part-0"]


def test_a_location_is_where_a_file_lies_and_a_file_is_local(place):
    artifact = make(place / "a")
    assert artifact.location("deep/part-1.txt") == place / "a" / artifact.manifest["run"] / "deep" / "part-1.txt"
    assert artifact.locations("part") == [artifact.location("part-0.txt")]
    assert read_text(artifact.location("part-0.txt")) == artifact.file("part-0.txt").read_text()
    assert artifact.checksum("part-0.txt") == file_digest(artifact.file("part-0.txt"))
    with pytest.raises(ArtifactError, match=r"no file 'x'"):
        artifact.location("x")


def test_files_of_one_artefact_lie_side_by_side(place):
    artifact = make(place / "a")
    assert artifact.file("deep/part-1.txt").parent.parent == artifact.file("part-0.txt").parent


def test_a_file_put_in_later_is_not_part_of_it(place):
    artifact = make(place / "a")
    write_part(artifact.dir / "part-9.txt", lambda aside: Path(aside).write_text("stray"))
    assert [p.name for p in open_artifact(place / "a", "thing", 1).parts("part-")] == ["part-0.txt"]


def test_equal_content_has_an_equal_fingerprint_and_other_content_another(place):
    first, again = make(place / "a"), make(place / "b")
    assert first.fingerprint == again.fingerprint
    assert make(place / "c", "other").fingerprint != first.fingerprint


# --- a stage is skipped when, and only when, its spec is the same ---


def test_current_finds_the_artefact_of_the_same_spec(place):
    made = make(place / "a")
    found = current(place / "a", SPEC)
    assert found is not None
    assert found.manifest == made.manifest


def test_current_sees_no_difference_between_a_tuple_and_the_list_it_is_stored_as(place):
    spec = Spec("thing", 1, config={"hidden": (8, 4)})
    make(place / "a", spec=spec)
    assert current(place / "a", spec)


@pytest.mark.parametrize(
    "other",
    [
        Spec("thing", 2, SPEC.inputs, SPEC.config),
        Spec("other", 1, SPEC.inputs, SPEC.config),
        Spec("thing", 1, {"events": "abd"}, SPEC.config),
        Spec("thing", 1, SPEC.inputs, {"size": 4}),
        Spec("thing", 1, SPEC.inputs, {"size": 3, "more": None}),
    ],
)
def test_current_finds_nothing_for_another_spec(place, other):
    make(place / "a")
    assert current(place / "a", other) is None


def test_current_finds_nothing_where_nothing_or_rubble_is(place):
    assert current(place / "a", SPEC) is None
    remove(make(place / "a").location("part-0.txt"))
    assert current(place / "a", SPEC) is None


# --- failing midway ---


def test_an_exception_midway_leaves_the_old_artefact_and_no_rubble(place):
    make(place / "a", "old")

    def fail_midway() -> None:
        with create(place / "a", SPEC) as draft:
            (draft.dir / "part-0.txt").write_text("new")
            write_part(draft.target / "part-1.txt", lambda aside: Path(aside).write_text("new"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert open_artifact(place / "a", "thing", 1).file("part-0.txt").read_text() == "old"
    assert len(runs(place / "a")) == 1


def test_an_exception_in_the_first_run_leaves_nothing_that_looks_finished(place):
    with pytest.raises(ZeroDivisionError), create(place / "a", SPEC):
        _ = 1 / 0
    assert "no thing artefact" in refusal(place / "a")


def test_a_reader_that_opened_the_artefact_before_a_new_run_can_finish(place):
    before = make(place / "a", "old")
    make(place / "a", "new")
    assert before.file("part-0.txt").read_text() == "old"


def test_replacing_a_text_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    replace_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


# --- missing, foreign, truncated, altered ---


def test_a_missing_artefact_is_refused_with_the_cure(place):
    assert "Cure: run the stage" in refusal(place / "a")


def test_another_kind_or_version_is_refused_naming_both(place):
    make(place / "a", spec=Spec("thing", 2))
    message = refusal(place / "a")
    assert "version 2" in message
    assert "version 1" in message


def test_a_truncated_and_a_missing_file_are_refused_by_name(place):
    location = make(place / "a").location("deep/part-1.txt")
    write_part(location, lambda aside: Path(aside).write_text("f"))
    assert "part-1.txt is missing or truncated" in refusal(place / "a")
    remove(location)
    assert "part-1.txt is missing or truncated" in refusal(place / "a")


def test_an_altered_byte_is_found_by_verify(place):
    write_part(make(place / "a").location("part-0.txt"), lambda aside: Path(aside).write_text("fIrst"))
    with pytest.raises(ArtifactError, match=r"part-0\.txt was altered"):
        open_artifact(place / "a", "thing", 1).verify()


def test_an_altered_copy_of_a_remote_file_is_found_by_verify_and_cured_by_deleting_it(bucket):
    artifact = make(locate(bucket) / "a")
    artifact.file("part-0.txt").write_text("fIrst")
    with pytest.raises(ArtifactError, match=r"part-0\.txt was altered.*Cure: delete it"):
        artifact.verify()
    artifact.file("part-0.txt").unlink()
    artifact.verify()


def test_a_manifest_may_not_point_outside_the_artefact(tmp_path):
    make(tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    (tmp_path / "secret").write_text("12345")
    manifest["files"] = {"../../secret": {"bytes": 5, "sha256": file_digest(tmp_path / "secret")}}
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(manifest))
    assert "MANIFEST.json" in refusal(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"spec": 1}', '{"spec": {"kind": "thing", "version": 1}}'])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    make(tmp_path / "a")
    (tmp_path / "a" / MANIFEST).write_text(text)
    refusal(tmp_path / "a")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), replacement=st.binary(max_size=3), cut=st.booleans())
def test_a_damaged_manifest_opens_or_raises_the_named_error(tmp_path, position, replacement, cut):
    """Whatever happens to the bytes of the manifest, a reader gets an Artifact or an ArtifactError."""
    path = tmp_path / "a"
    if not path.exists():
        make(path)
        (tmp_path / "good").write_bytes((path / MANIFEST).read_bytes())
    good = (tmp_path / "good").read_bytes()
    at = int(position * len(good))
    (path / MANIFEST).write_bytes(good[:at] + replacement + (b"" if cut else good[at + len(replacement) :]))
    try:
        artifact = open_artifact(path, "thing", 1)
    except ArtifactError:
        return
    assert artifact.dir.is_dir()
