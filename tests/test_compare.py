"""A second bundle beside the served one: which it is, what it answers, and that it is swapped like the first."""

import signal
import time
from pathlib import Path

import httpx
import pytest
from serving_fixture import config, running_server

from pipeline import stages
from pipeline.artifacts import open_artifact, roll_back
from pipeline.config_serve import ServeConfig
from pipeline.errors import ArtifactError
from serving.app import serve
from serving.bundle import KIND, VERSION, Bundle, open_files


def test_both_bundles_answer_and_swap(bundle_path: Path, other_bundle_path: Path, tmp_path: Path) -> None:
    compared_with = {"compare": str(other_bundle_path), "poll_seconds": 0}
    with running_server(bundle_path, tmp_path / "log", **compared_with) as (url, process):

        def run(bundle: str) -> str:
            return httpx.get(f"{url}/v1/bundle", params={"bundle": bundle}).json()["run"]

        served = open_artifact(bundle_path, KIND, VERSION).manifest["run"]
        compared = open_artifact(other_bundle_path, KIND, VERSION).manifest["run"]
        assert (run("served"), run("compare")) == (served, compared)
        for which, expected in (("served", served), ("compare", compared)):
            request = {"user_id": "u3", "k": 5}
            one = httpx.post(f"{url}/v1/recommend", json={**request, "bundle": which}).json()
            batch = httpx.post(f"{url}/v1/recommend/batch", json={"requests": [request], "bundle": which}).json()
            assert one["bundle"] == batch["bundle"] == expected
            assert one["items"] == batch["results"][0]["items"]
        roll_back(other_bundle_path, KIND, VERSION)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while run("compare") == compared:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert run("served") == served


def test_a_kept_run_is_a_bundle_too(other_bundle_path: Path) -> None:
    now = open_files(other_bundle_path)
    before = open_files(other_bundle_path / now.manifest["previous"])
    assert before.manifest["run"] == now.manifest["previous"]
    assert Bundle.open(other_bundle_path / before.manifest["run"]).artifact == before


def test_compare_takes_a_name_the_run_before_or_a_path(
    serving_dir: Path, bundle_path: Path, other_bundle_path: Path
) -> None:
    settings = config(serving_dir, "other")
    previous = open_files(other_bundle_path).manifest["previous"]
    assert stages.other_bundle(settings, "default") == bundle_path
    assert stages.other_bundle(settings, "previous") == other_bundle_path / previous
    assert stages.other_bundle(settings, "s3://bucket/bundle") == "s3://bucket/bundle"


def test_no_run_before_is_said(serving_dir: Path, bundle_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle before the current one"):
        stages.other_bundle(config(serving_dir), "previous")


def test_missing_second_bundle_is_refused_before_anything_listens(bundle_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle artefact"):
        serve(bundle_path, ServeConfig(compare=str(tmp_path / "nowhere")))
