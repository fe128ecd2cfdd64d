"""A new bundle is checked by a process of its own before it is served."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_fixture import ROOT, make_bundle

from pipeline.artifacts import open_artifact, roll_back
from pipeline.errors import ArtifactError
from pipeline.storage import locate
from serving.bundle import KIND, VERSION
from serving.check import RESTART_SECONDS, Checker, check
from serving.metrics import Metrics
from serving.reload import Reloader
from serving.shared_numbers import SharedNumbers


@pytest.fixture(scope="module")
def path(serving_dir: Path) -> Path:
    make_bundle(serving_dir, "checked")
    return Path(str(make_bundle(serving_dir, "checked").path))


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Checker() as started:
        yield started


def current(path: Path) -> str:
    return open_artifact(path, KIND, VERSION).manifest["run"]


def verdict(path: Path, checker: Checker) -> str:
    return asyncio.run(check(locate(str(path)), current(path), checker.address))


def test_swap_waits_for_the_check_and_heeds_it(path: Path, checker: Checker) -> None:
    numbers = SharedNumbers.make(1, Metrics.columns([]))
    metrics = Metrics(SharedNumbers(numbers, 1, Metrics.columns([])), 0, [])
    reloader = Reloader(locate(str(path)), metrics, checker.address)
    first = reloader.served.run
    run = roll_back(path, KIND, VERSION).manifest["run"]
    file = path / run / "vectors.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\0")
    asyncio.run(reloader.check())
    assert (reloader.served.run, reloader.last["state"]) == (first, "failed")
    assert "was altered" in reloader.last["error"]
    file.write_bytes(whole)
    asyncio.run(reloader.check(again=True))
    assert (reloader.served.run, reloader.last["state"]) == (run, "done")
    numbers.unlink()


def test_bundle_that_is_not_there_is_refused_with_its_path(tmp_path: Path, checker: Checker) -> None:
    with pytest.raises(ArtifactError, match="no bundle artefact"):
        asyncio.run(check(locate(str(tmp_path / "nowhere")), "run=0", checker.address))


def test_run_that_was_found_good_is_not_checked_again_for_the_next_worker(path: Path, checker: Checker) -> None:
    assert verdict(path, checker) == current(path)
    file = path / current(path) / "vectors.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\0")
    assert verdict(path, checker) == current(path)
    roll_back(path, KIND, VERSION)
    assert verdict(path, checker) == current(path)
    file.write_bytes(whole)
    roll_back(path, KIND, VERSION)


def test_checker_that_ended_is_missed_until_it_is_started_anew(path: Path) -> None:
    with Checker() as checker:
        assert verdict(path, checker) == current(path)
        checker.stop()
        checker.revive()  # too soon after the start, perhaps
        time.sleep(RESTART_SECONDS)
        checker.revive()
        assert verdict(path, checker) == current(path)


def test_worker_that_ends_amid_its_question_stops_nobody(path: Path, checker: Checker) -> None:
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(checker.address)
        half.sendall(b'["')
    assert verdict(path, checker) == current(path)


def test_checker_that_cannot_be_reached_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="cannot be reached"):
        asyncio.run(check(locate(str(path)), current(path), str(tmp_path / "nobody")))


def test_worker_hears_that_there_will_be_no_verdict(path: Path) -> None:
    async def ask(checker: Checker) -> None:
        asked = asyncio.create_task(check(locate(str(path)), current(path), checker.address))
        await asyncio.sleep(0.1)
        checker.__exit__()
        await asked

    with pytest.raises(ConnectionError):
        asyncio.run(ask(Checker()))


@pytest.mark.parametrize("least", [0.0, 99.0])
def test_check_that_gets_no_processor_begins_again(path: Path, least: float) -> None:
    settings = f"check.PATIENCE, check.LEAST_SHARE = 0.01, {least}"
    code = f"from serving import check; {settings}; print(check._checked({str(path)!r}))"
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True).stdout
    assert told.strip() == str((current(path), None))
