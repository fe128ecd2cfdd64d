"""pipeline/artifacts.py: nothing half-written is ever seen, and nothing altered passes for good."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.errors import ArtifactError
from pipeline.local_disk import LOCK
from pipeline.manifest import MANIFEST
from pipeline.storage import file_digest, replace_text

SPEC = Spec("thing", 1, inputs={"events": "abc"}, config={"size": 3})


def make(path: Path, text: str = "first", spec: Spec = SPEC) -> Artifact:
    with create(path, spec) as draft:
        (draft.dir / "part-0.txt").write_text(text)
        (draft.dir / "deep").mkdir()
        (draft.dir / "deep" / "part-1.txt").write_text(text * 2)
        draft.counts["letters"] = len(text)
    return open_artifact(path, spec.kind, spec.version)


def runs(path: Path) -> list[str]:
    return sorted(run.name for run in path.glob("run=*"))


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, "thing", 1)
    return str(caught.value)


def test_what_was_written_is_read_back(tmp_path):
    artifact = make(tmp_path / "a")
    assert artifact.file("part-0.txt").read_text() == "first"
    assert artifact.file("deep/part-1.txt").read_text() == "firstfirst"
    assert artifact.counts == {"letters": 5}
    assert artifact.config == {"size": 3}
    artifact.verify()


def test_the_manifest_says_what_made_it(tmp_path):
    manifest = make(tmp_path / "a").manifest
    assert manifest["spec"] == {"kind": "thing", "version": 1, "inputs": {"events": "abc"}, "config": {"size": 3}}
    assert manifest["files"]["part-0.txt"]["bytes"] == 5
    assert set(manifest) == {"run", "previous", "spec", "files", "counts", "code", "created", "seconds"}


def test_parts_come_in_name_order(tmp_path):
    with create(tmp_path / "a", SPEC) as draft:
        for number in (2, 0, 1):
            (draft.dir / f"part-{number}").touch()
        (draft.dir / "other").touch()
    assert [p.name for p in open_artifact(tmp_path / "a", "thing", 1).parts("part-")] == ["part-0", "part-1", "part-2"]


def test_a_file_it_does_not_hold_is_refused_with_those_it_does(tmp_path):
    with pytest.raises(ArtifactError, match=r"no file 'x'.*part-0\.txt"):
        make(tmp_path / "a").file("x")


def test_a_file_put_in_later_is_not_part_of_it(tmp_path):
    artifact = make(tmp_path / "a")
    (artifact.dir / "part-9.txt").write_text("stray")
    assert [p.name for p in open_artifact(tmp_path / "a", "thing", 1).parts("part-")] == ["part-0.txt"]


def test_equal_content_has_an_equal_fingerprint_and_other_content_another(tmp_path):
    first, again = make(tmp_path / "a"), make(tmp_path / "b")
    assert first.fingerprint == again.fingerprint
    assert make(tmp_path / "c", "other").fingerprint != first.fingerprint


# --- a stage is skipped when, and only when, its spec is the same ---


def test_current_finds_the_artefact_of_the_same_spec(tmp_path):
    made = make(tmp_path / "a")
    found = current(tmp_path / "a", SPEC)
    assert found is not None
    assert found.manifest == made.manifest


def test_current_sees_no_difference_between_a_tuple_and_the_list_it_is_stored_as(tmp_path):
    spec = Spec("thing", 1, config={"hidden": (8, 4)})
    make(tmp_path / "a", spec=spec)
    assert current(tmp_path / "a", spec)


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
def test_current_finds_nothing_for_another_spec(tmp_path, other):
    make(tmp_path / "a")
    assert current(tmp_path / "a", other) is None


def test_current_finds_nothing_where_nothing_or_rubble_is(tmp_path):
    assert current(tmp_path / "a", SPEC) is None
    make(tmp_path / "a").file("part-0.txt").unlink()
    assert current(tmp_path / "a", SPEC) is None


# --- dying at any moment ---


def test_an_exception_midway_leaves_the_old_artefact_and_no_rubble(tmp_path):
    make(tmp_path / "a", "old")

    def fail_midway() -> None:
        with create(tmp_path / "a", SPEC) as draft:
            (draft.dir / "part-0.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert open_artifact(tmp_path / "a", "thing", 1).file("part-0.txt").read_text() == "old"
    assert len(runs(tmp_path / "a")) == 1


def test_an_exception_in_the_first_run_leaves_nothing_that_looks_finished(tmp_path):
    with pytest.raises(ZeroDivisionError), create(tmp_path / "a", SPEC):
        _ = 1 / 0
    assert "no thing artefact" in refusal(tmp_path / "a")


KILLED_STAGE = """
    import os, signal, sys
    from pathlib import Path
    import pipeline.artifacts as artifacts

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    point = sys.argv[2]
    if point == "rename":
        os.replace = die
    if point == "collect":
        artifacts._collect = die
    with artifacts.create(sys.argv[1], artifacts.Spec("thing", 1)) as draft:
        (draft.dir / "part-0.txt").write_text("new")
        if point == "body":
            die()
"""


@pytest.mark.parametrize(("point", "expected"), [("body", "old"), ("rename", "old"), ("collect", "new")])
def test_a_killed_stage_leaves_a_whole_artefact_and_the_next_run_collects_its_rubble(tmp_path, point, expected):
    make(tmp_path / "a", "old")
    root = Path(__file__).resolve().parent.parent
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_STAGE), str(tmp_path / "a"), point], cwd=root, check=False
    )
    assert process.returncode == -signal.SIGKILL
    artifact = open_artifact(tmp_path / "a", "thing", 1)
    artifact.verify()
    assert artifact.file("part-0.txt").read_text() == expected
    latest = make(tmp_path / "a", "latest")
    assert set(runs(tmp_path / "a")) == {artifact.dir.name, latest.dir.name}
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if p.is_file()) == [LOCK, MANIFEST]


def test_a_reader_that_opened_the_artefact_before_a_new_run_can_finish(tmp_path):
    before = make(tmp_path / "a", "old")
    make(tmp_path / "a", "new")
    assert before.file("part-0.txt").read_text() == "old"


def test_only_the_run_before_is_kept(tmp_path):
    made = [make(tmp_path / "a", str(number)).dir.name for number in range(4)]
    assert set(runs(tmp_path / "a")) == set(made[-2:])


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


def test_a_missing_artefact_is_refused_with_the_cure(tmp_path):
    assert "Cure: run the stage" in refusal(tmp_path / "a")


def test_another_kind_or_version_is_refused_naming_both(tmp_path):
    make(tmp_path / "a", spec=Spec("thing", 2))
    message = refusal(tmp_path / "a")
    assert "version 2" in message
    assert "version 1" in message


def test_a_truncated_and_a_missing_file_are_refused_by_name(tmp_path):
    artifact = make(tmp_path / "a")
    os.truncate(artifact.file("deep/part-1.txt"), 1)
    assert "part-1.txt is missing or truncated" in refusal(tmp_path / "a")
    artifact.file("deep/part-1.txt").unlink()
    assert "part-1.txt is missing or truncated" in refusal(tmp_path / "a")


def test_an_altered_byte_is_found_by_verify(tmp_path):
    artifact = make(tmp_path / "a")
    artifact.file("part-0.txt").write_text("fIrst")
    with pytest.raises(ArtifactError, match=r"part-0\.txt was altered"):
        open_artifact(tmp_path / "a", "thing", 1).verify()


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
