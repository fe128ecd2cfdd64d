"""Hot swap: a running server takes new bundles, refuses bad ones, and misses no request."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest
from serving_fixture import make_bundle, running_server

from pipeline.artifacts import open_artifact, roll_back
from serving.bundle import KIND, VERSION


@dataclass
class Swapping:
    """A server with two workers over a bundle of its own, which looks for another only when told to."""

    url: str
    process: Popen[str]
    path: Path

    def info(self) -> dict[str, Any]:
        with httpx.Client() as fresh:  # a new connection, which may reach the other worker
            return fresh.get(f"{self.url}/v1/bundle").json()

    def tell(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def wait_for(self, true: Callable[[dict[str, Any]], bool]) -> None:
        """Until it is true of every worker: so many answers in a row come from both."""
        until, in_a_row = time.monotonic() + 90, 0
        while in_a_row < 12:
            in_a_row = in_a_row + 1 if true(self.info()) else 0
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture(scope="module")
def swapping(serving_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swapping]:
    bundle = make_bundle(serving_dir, "swapped")
    make_bundle(serving_dir, "swapped")
    log = tmp_path_factory.mktemp("swapping") / "log"
    with running_server(Path(str(bundle.path)), log, workers=2, poll_seconds=0) as (url, process):
        yield Swapping(url, process, Path(str(bundle.path)))


def current(swapping: Swapping) -> str:
    return open_artifact(swapping.path, KIND, VERSION).manifest["run"]


def test_rollback_is_served_by_every_worker_after_a_hangup_signal(swapping: Swapping) -> None:
    before = swapping.info()["run"]
    roll_back(swapping.path, KIND, VERSION)
    assert swapping.info()["run"] == before  # it was not told yet
    swapping.tell()
    swapping.wait_for(lambda info: info["run"] == current(swapping) != before)
    assert swapping.info()["reload"]["state"] == "done"


def test_reload_request_answers_with_the_new_bundle(swapping: Swapping) -> None:
    roll_back(swapping.path, KIND, VERSION)
    answer = httpx.post(f"{swapping.url}/v1/admin/reload").json()
    assert answer == {"bundle": current(swapping), "changed": True, "error": None}
    swapping.wait_for(lambda info: info["run"] == current(swapping))


def test_bundle_that_is_altered_is_refused_and_the_old_one_stays(swapping: Swapping) -> None:
    before = swapping.info()["run"]
    run = roll_back(swapping.path, KIND, VERSION).manifest["run"]
    file = swapping.path / run / "vectors.npy"
    kept = file.with_suffix(".kept")
    shutil.copyfile(file, kept)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    swapping.tell()
    swapping.wait_for(lambda info: info["reload"]["state"] == "failed")
    info = swapping.info()
    assert info["run"] == before
    assert info["reload"]["run"] == run
    assert "was altered" in info["reload"]["error"]
    asked = httpx.post(f"{swapping.url}/v1/admin/reload").json()
    assert asked == {"bundle": before, "changed": False, "error": info["reload"]["error"]}
    assert httpx.post(f"{swapping.url}/v1/recommend", json={"user_id": "u3"}).json()["bundle"] == before
    assert (
        float(httpx.get(f"{swapping.url}/metrics").text.split("\ntwotower_reload_failures_total ")[1].split()[0]) >= 2
    )
    kept.replace(file)
    swapping.tell()
    swapping.wait_for(lambda info: info["run"] == run)


def test_no_request_fails_while_bundles_are_swapped(swapping: Swapping) -> None:
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client() as client:
            while not done.is_set():
                response = client.post(f"{swapping.url}/v1/recommend", json={"user_id": "u3", "k": 20})
                answers.append((response.status_code, response.json()["bundle"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            roll_back(swapping.path, KIND, VERSION)
            swapping.tell()
            swapping.wait_for(lambda info: info["run"] == current(swapping))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in answers} == {200}
    assert len({run for _, run in answers}) == 2
