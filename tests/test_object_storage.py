"""The pipeline on a `workdir` in an object store: every job, then the command line, against an S3 server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from beam_fixtures import SCHEMA, random_catalogue, random_log, small_config, write_log

from pipeline.local_disk import LOCK
from pipeline.prepare import JOBS, prepare
from pipeline.storage import locate, sizes
from pipeline.tables import Tables

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "name": "tiny",
    "source": {"format": "demo", "partition": "day", "demo": {"users": 60, "items": 50, "events": 1200, "days": 10}},
    "prepare": {"partitions": 2, "titles": {"neighbours": 5}},
    "tower": {"embedding_dim": 8, "hidden": [8], "history_length": 5},
    "train": {"batch_size": 512, "max_epochs": 1},
    "tasks": {"session_level": {"weight": 0.1, "batch_size": 32, "negatives": 4}},
    "evaluate": {"at": [5], "recent_days": [5], "bootstrap": 20},
    "export": {"recall_at": 10},
}
pytestmark = pytest.mark.timeout(600)


def prepared(workdir: str) -> dict[str, str]:
    """The fingerprints of all jobs over one and the same log."""
    config = small_config(workdir)
    items, users = random_catalogue(3)
    write_log(config, random_log(seed=18), SCHEMA, items, users)
    return {name: artifact.fingerprint for name, artifact in prepare(config).items()}


def test_every_job_writes_the_same_bytes_every_time_and_everywhere(tmp_path, bucket):
    first = prepared(str(tmp_path / "one"))
    assert list(first) == list(JOBS)
    assert prepared(str(tmp_path / "two")) == first
    assert prepared(f"{bucket}/a folder/work") == first


def test_the_command_line_runs_and_queries_in_an_object_store(tmp_path, bucket):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**TINY, "workdir": f"{bucket}/shop"}))

    def twotower(*arguments: str, cache: str) -> str:
        command = [sys.executable, "-m", "pipeline.cli", *arguments, "--config", str(config)]
        environment = {**os.environ, "TWOTOWER_CACHE": str(tmp_path / cache)}
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr[-4000:]
        return process.stdout

    assert "popularity" in twotower("run", cache="trainer")
    stored = sizes(locate(bucket))
    assert "shop/bundles/tiny/MANIFEST.json" in stored
    assert not any(name.endswith(LOCK) for name in stored)
    # The bundle is all that another machine needs.
    item = Tables.read(f"{bucket}/shop/tables").items()["item_id"][0].as_py()
    answer = json.loads(twotower("query", "--json", "--item", item, "-k", "3", cache="server"))
    assert len(answer["items"]) == 3
    assert len(list((tmp_path / "server" / "files").iterdir())) == 1
