"""A large bundle is checked by a process of its own before it is served; a small one here plays the large one."""

import asyncio
from pathlib import Path

import pytest
from serving_fixture import make_bundle

from pipeline.artifacts import open_artifact, roll_back
from pipeline.errors import ArtifactError
from pipeline.storage import locate
from serving import reload
from serving.bundle import KIND, VERSION
from serving.check import check
from serving.metrics import Metrics
from serving.reload import Reloader
from serving.shared_numbers import SharedNumbers


@pytest.fixture(scope="module")
def path(serving_dir: Path) -> Path:
    make_bundle(serving_dir, "checked")
    return Path(str(make_bundle(serving_dir, "checked").path))


def test_swap_waits_for_the_check_and_heeds_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LARGE", 0)
    numbers = SharedNumbers.make(1, Metrics.columns([]))
    reloader = Reloader(locate(str(path)), Metrics(SharedNumbers(numbers, 1, Metrics.columns([])), 0, []))
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


def test_bundle_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle artefact"):
        asyncio.run(check(locate(str(tmp_path / "nowhere"))))


def test_good_bundle_passes(path: Path) -> None:
    asyncio.run(check(locate(str(path))))
    assert open_artifact(path, KIND, VERSION)
