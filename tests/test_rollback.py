"""Rolling an artefact back: one step, checked, and its own undoing."""

import pytest

from pipeline.artifacts import Spec, create, open_artifact, roll_back
from pipeline.errors import ArtifactError

SPEC = Spec("thing", 1)


def publish(place, text):
    with create(place, SPEC) as draft:
        (draft.dir / "file").write_text(text)
    return open_artifact(place, "thing", 1).manifest["run"]


def test_rollback_publishes_the_run_before_and_done_twice_the_last(place):
    first, second = publish(place, "one"), publish(place, "two")
    assert roll_back(place, "thing", 1).manifest["run"] == first
    assert open_artifact(place, "thing", 1).file("file").read_text() == "one"
    assert roll_back(place, "thing", 1).manifest["run"] == second
    assert open_artifact(place, "thing", 1).file("file").read_text() == "two"


def test_run_after_a_rollback_keeps_the_run_that_was_current(tmp_path):
    first, _ = publish(tmp_path, "one"), publish(tmp_path, "two")
    roll_back(tmp_path, "thing", 1)
    publish(tmp_path, "three")
    assert roll_back(tmp_path, "thing", 1).manifest["run"] == first


def test_first_run_cannot_be_rolled_back(tmp_path):
    publish(tmp_path, "one")
    with pytest.raises(ArtifactError, match="no run before"):
        roll_back(tmp_path, "thing", 1)


def test_altered_run_is_not_rolled_back_to(tmp_path):
    first, second = publish(tmp_path, "one"), publish(tmp_path, "two")
    (tmp_path / first / "file").write_text("ONE")
    with pytest.raises(ArtifactError, match="was altered"):
        roll_back(tmp_path, "thing", 1)
    assert open_artifact(tmp_path, "thing", 1).manifest["run"] == second
