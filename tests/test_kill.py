"""kill -9 at every step: the last good artefact stays, a re-run completes, nothing is left over; on disk and on S3."""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from beam_fixtures import random_log, small_config, write_log
from kill_fixture import APPEARS, EVERY, Executioner, executioner

from beam_jobs import catalogue_counts, day_events, window_events
from pipeline import artifacts, catalogue
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.local_disk import LOCK, cache_dir, scratch
from pipeline.manifest import MANIFEST
from pipeline.prepare import prepare
from pipeline.storage import Location, is_remote, locate, sizes, subfolders, write_part

JOBS = ["day_events", "window_events", "catalogue_counts", "vocabularies"]
ARTEFACTS = {
    "prepared/day_events/date=all": (day_events.DAY_KIND, day_events.DAY_VERSION),
    "prepared/day_events": (day_events.KIND, day_events.VERSION),
    "prepared/window_events": (window_events.KIND, window_events.VERSION),
    "prepared/catalogue_counts": (catalogue_counts.KIND, catalogue_counts.VERSION),
    "prepared/vocabularies": (catalogue.KIND, catalogue.VERSION),
}
"""What those jobs write: folders, with kind and version."""


@pytest.fixture(scope="module")
def killer() -> Iterator[Executioner]:
    with executioner() as process:
        yield process


@pytest.fixture(params=["local", "s3"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """An empty place that other processes reach too; what a dead writer leaves there is collected at once."""
    monkeypatch.setattr(artifacts, "ORPHAN_AGE", timedelta(0))
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work" if request.param == "local" else locate(request.getfixturevalue("bucket"))


def stage(path: str, text: str) -> None:
    """Skips itself when current; else writes a file itself, and two as workers do."""
    spec = Spec("thing", 1, config={"text": text})
    if current(path, spec):
        return
    with create(path, spec) as draft:
        for part in range(2):
            write_part(draft.target / "parts" / f"part-{part}", lambda aside: Path(aside).write_text(text))
        (draft.dir / "whole").write_text(text)


def verified(path: Location, kind: str, version: int = 1) -> Artifact:
    """The artefact, every byte of it read from where it lies and compared with its checksum."""
    shutil.rmtree(cache_dir() / "files", ignore_errors=True)
    artifact = open_artifact(path, kind, version)
    artifact.verify()
    return artifact


def check_nothing_is_left_over(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert {run.name for run in subfolders(artifact.path, "run=")} == {manifest["run"], manifest["previous"]} - {None}
    assert {name for name in sizes(artifact.path) if "/" not in name} <= {MANIFEST, LOCK}
    assert list(cache_dir().glob("scratch/*/*")) == []


def test_a_stage_may_die_at_any_step(workdir, tmp_path, killer):
    # What happens in the scratch folder of a remote draft has its own test below.
    kinds = APPEARS if is_remote(workdir) else EVERY
    path, old = workdir / "a", "-1"
    for text in ("-2", old):
        stage(str(path), text)
    for step in count(1):
        died = killer.dies(step, kinds, tmp_path, stage, str(path), str(step))
        assert texts(verified(path, "thing")) in ({old}, {str(step)})
        stage(str(path), str(step))
        again = verified(path, "thing")
        old = str(step)
        assert texts(again) == {old}
        check_nothing_is_left_over(again)
        if not died:
            break
    assert step > (4 if is_remote(workdir) else 20)


def texts(artifact: Artifact) -> set[str]:
    return {artifact.file(name).read_text() for name in artifact.manifest["files"]}


def use_scratch() -> None:
    with scratch() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("text")


def test_a_scratch_folder_may_be_abandoned_at_any_step(tmp_path, killer, monkeypatch):
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    for step in count(1):
        died = killer.dies(step, EVERY, tmp_path, use_scratch)
        with scratch() as folder:
            assert list(tmp_path.glob("scratch/*/files")) == [folder]
        if not died:
            break
    assert step > 10


def fingerprints(workdir: Location, open_one: Callable[[Location, str, int], Artifact]) -> dict[str, str]:
    """Of all that prepare writes, even if it was cut short."""
    return {folder: open_one(workdir / folder, *which).fingerprint for folder, which in ARTEFACTS.items()}


def tidy(path: Location, kind: str, version: int) -> Artifact:
    """The artefact, beside which nothing is left over."""
    artifact = open_artifact(path, kind, version)
    check_nothing_is_left_over(artifact)
    return artifact


def test_prepare_may_die_whenever_something_appears(workdir, tmp_path, killer):
    config = small_config(workdir, prepare={"partitions": 1})
    logs, expected = [random_log(seed) for seed in (1, 2)], []
    for log in logs:
        write_log(config, log)
        prepare(config, JOBS)
        expected.append(fingerprints(workdir, tidy))
    for step in count(1):
        now, before = (step + 1) % 2, step % 2
        write_log(config, logs[now])
        died = killer.dies(step, APPEARS, tmp_path / "work", prepare, config, JOBS)
        for folder, left in fingerprints(workdir, verified).items():
            assert left in (expected[before][folder], expected[now][folder])
        prepare(config, JOBS)
        assert fingerprints(workdir, tidy) == expected[now]
        if not died:
            break
    assert step > 6
