"""kill -9 at every step: the last good artefact stays, a re-run completes, nothing is left over; on disk and on S3."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from beam_fixtures import random_log, small_config, write_log
from kill_fixture import APPEARS, EVERY, Executioner, executioner

from pipeline import artifacts
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.config import Config
from pipeline.local_disk import LOCK, cache_dir, scratch
from pipeline.manifest import MANIFEST
from pipeline.prepare import prepare
from pipeline.storage import Location, is_remote, locate, sizes, subfolders, write_part

JOBS = ["vocabularies", "user_sequences"]


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


def opened(path: Location, kind: str) -> Artifact:
    """The artefact, every byte of it read from where it lies and compared with its checksum."""
    shutil.rmtree(cache_dir() / "files", ignore_errors=True)
    artifact = open_artifact(path, kind, 1)
    artifact.verify()
    return artifact


def check_nothing_is_left_over(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert {run.name for run in subfolders(artifact.path, "")} == {manifest["run"], manifest["previous"]} - {None}
    assert {name for name in sizes(artifact.path) if "/" not in name} <= {MANIFEST, LOCK}
    assert list(cache_dir().glob("scratch/*/*")) == []


def test_a_stage_may_die_at_any_step(workdir, tmp_path, killer):
    # What only happens in the scratch folder of a remote draft has its own test below.
    kinds = APPEARS | {"open"} if is_remote(workdir) else EVERY
    path, old = workdir / "a", "-1"
    for text in ("-2", old):
        stage(str(path), text)
    for step in count(1):
        died = killer.dies(step, kinds, tmp_path, stage, str(path), str(step))
        assert texts(opened(path, "thing")) in ({old}, {str(step)})
        stage(str(path), str(step))
        again = opened(path, "thing")
        old = str(step)
        assert texts(again) == {old}
        check_nothing_is_left_over(again)
        if not died:
            break
    assert step > 10


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


def prepare_quietly(config: Config) -> dict[str, str]:
    """Run the jobs that are not current; returns the fingerprints of all."""
    return {name: artifact.fingerprint for name, artifact in prepare(config, only=JOBS).items()}


def test_prepare_may_die_whenever_something_appears(workdir, tmp_path, killer):
    config = small_config(workdir, prepare={"partitions": 1})
    logs, expected = [random_log(seed) for seed in (1, 2)], []
    for log in logs:
        write_log(config, log)
        expected.append(prepare_quietly(config))
    for step in count(1):
        write_log(config, logs[(step + 1) % 2])
        died = killer.dies(step, APPEARS, tmp_path / "work", prepare, config, JOBS)
        for name in JOBS:
            left = opened(config.prepared_dir(name), name).fingerprint
            assert left in [fingerprints[name] for fingerprints in expected]
        assert prepare_quietly(config) == expected[(step + 1) % 2]
        for name in JOBS:
            check_nothing_is_left_over(opened(config.prepared_dir(name), name))
        if not died:
            break
    assert step > 5
