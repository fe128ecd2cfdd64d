"""Training on clusters: each task is a process of its own on this machine. `make test-distribute` runs them."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from cluster_fixture import started
from train_fixtures import config_of, curves, model_of, prepare_log, records, variables

from pipeline.artifacts import open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.export import export
from pipeline.train import load_model, read_inputs
from pipeline.validation import Validation

pytestmark = [pytest.mark.distribute, pytest.mark.timeout(900)]

WORKERS = {"worker": 2}
SERVERS = {"ps": 2, "worker": 2, "chief": 1}
EPOCHS = 20
WATCHED = ("watch.tensorboard=true", "watch.every_steps=5")
LONG = ("train.batch_size=40", f"train.max_epochs={EPOCHS}", "train.patience=99", "train.checkpoint_minutes=0.02")
MANY = (*LONG, *WATCHED)
"""Epochs enough that something can happen in their midst."""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("cluster"))
    prepare_log(folder)
    return folder


def trained(config: Config, folder: Path, roles: dict[str, int], *options: str) -> dict[str, str]:
    """What each task has said; all of them ended well."""
    with started(config, folder, roles, *options) as tasks:
        codes = tasks.wait()
    logs = {task: tasks.log(task) for task in codes}
    assert not any(codes.values()), logs
    return logs


def apart(one: Config, other: Config) -> float:
    expected, found = (variables(model_of(config), "weights") for config in (one, other))
    assert expected.keys() == found.keys()
    return max(float(np.abs(expected[name].astype(float) - found[name]).max()) for name in expected)


def has_checkpoint(config: Config, epoch: int) -> bool:
    manifest = config.run_dir / "checkpoint" / "MANIFEST.json"
    return manifest.exists() and json.loads(manifest.read_text())["counts"]["epoch"] >= epoch


# --- several workers ---


@pytest.fixture(scope="module")
def whole(workdir, tmp_path_factory) -> Config:
    """A run of one process."""
    config = config_of(workdir, "whole", *MANY)
    trained(config, tmp_path_factory.mktemp("whole"), {})
    return config


def test_two_workers_train_the_model_of_one_device_and_only_the_chief_writes(workdir, tmp_path, whole):
    config = config_of(workdir, "two", *MANY, "train.distribute=multi_worker")
    logs = trained(config, tmp_path, WORKERS)
    losses = [[line["loss"] for line in records(each)] for each in (whole, config)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # rounding grows over 200 steps
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=1e-5)
    assert f"epoch {EPOCHS}:" in logs["worker 0"]
    assert "epoch 1:" not in logs["worker 1"]
    assert sorted(path.name for path in config.run_dir.iterdir()) == [
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "model",
        "tensorboard",
    ]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_stops_the_other_and_both_go_on_from_the_checkpoint(workdir, tmp_path, whole, victim):
    config = config_of(workdir, f"killed{victim}", *MANY, "train.distribute=multi_worker")
    other = f"worker {1 - victim}"
    with started(config, tmp_path / "first", WORKERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 3))
        tasks.processes[f"worker {victim}"].kill()
        assert tasks.wait()[other] == 1
    assert re.search(r"error: another worker of this run is gone.*Cure: .*`--resume`", tasks.log(other))
    logs = trained(config, tmp_path / "second", WORKERS, "--resume")
    assert "resuming from epoch" in logs["worker 0"]
    losses = [[line["loss"] for line in records(each)] for each in (whole, config)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_signal_to_one_worker_stops_all_at_one_step_and_one_device_goes_on(workdir, tmp_path, whole):
    config = config_of(workdir, "stopped", *MANY, "train.distribute=multi_worker")
    with started(config, tmp_path / "first", WORKERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 3))
        tasks.processes["worker 1"].send_signal(signal.SIGTERM)
        assert tasks.wait() == {"worker 0": 143, "worker 1": 143}
    places = [re.search(r"stopped by .* at (epoch \d+, step \d+)", tasks.log(task)) for task in tasks.logs]
    assert places[0]
    assert places[1]
    assert places[0][1] == places[1][1]
    alone = config_of(workdir, "stopped", *MANY)
    logs = trained(alone, tmp_path / "second", {}, "--resume")
    assert f"resuming from {places[0][1]}" in logs["alone 0"]
    assert apart(whole, alone) < 0.05


# --- parameter servers ---

SHARDED = ("train.distribute=parameter_server", "train.shard_bytes=128", "train.learning_rate=0.005", "train.monitor=3")


def test_tables_on_two_servers_train_a_model_that_one_process_reads(workdir, tmp_path):
    tasks = ("loss.negatives.uniform=10", "tasks.feature_level={weight: 0.1, batch_size: 16, negatives: 4}")
    config = config_of(workdir, "servers", *SHARDED, *tasks, *WATCHED, "train.batch_size=32", "train.max_epochs=8")
    logs = trained(config, tmp_path, SERVERS)
    assert "shards of the item tables on 2 servers: item_id 2" in logs["chief 0"]
    for task in ("worker 0", "worker 1", "ps 0", "ps 1"):
        assert "stops: the chief" in logs[task]
    lines = records(config)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    best = lines[model_of(config).counts["best_epoch"] - 1]["validation"]
    inputs = read_inputs(config)
    validation = Validation.of(load_model(config), config, inputs.sequences, inputs.users, inputs.rows)
    assert {"HIT@3": validation.hit(), **validation.spread()} == pytest.approx(best, rel=1e-5)
    assert {"learning_rate", "loss/feature_level", "norm/item_id"} <= set(curves(config.run_dir / "tensorboard"))
    assert export(config).counts["items"] == Vocabularies.read(config.prepared_dir("vocabularies")).items.size - 1


def test_a_sharded_run_goes_on_with_as_many_servers_and_no_other_way(workdir, tmp_path):
    config = config_of(workdir, "servers-stopped", *SHARDED, *MANY)
    with started(config, tmp_path / "first", SERVERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 2))
        tasks.processes["chief 0"].send_signal(signal.SIGTERM)
        assert tasks.wait() == {"ps 0": 1, "ps 1": 1, "worker 0": 1, "worker 1": 1, "chief 0": 143}
    at = open_artifact(config.run_dir / "checkpoint", "checkpoint", 1).counts
    with started(config_of(workdir, config.name, *MANY, *SHARDED[2:]), tmp_path / "alone", {}, "--resume") as alone:
        assert alone.wait()["alone 0"] == 1
    assert "the chief has stopped without a model" in tasks.log("worker 1")
    assert re.search(r"differs in `parameter_servers` 2 -> .*Cure: resume it with its own", alone.log("alone 0"))
    logs = trained(config, tmp_path / "second", SERVERS, "--resume")
    assert f"resuming from epoch {at['epoch']}, step {at['step']}" in logs["chief 0"]
    assert len(records(config)) == EPOCHS


def test_a_worker_that_is_killed_leaves_its_batches_to_the_others(workdir, tmp_path):
    config = config_of(workdir, "one-worker-less", *SHARDED, *MANY)
    with started(config, tmp_path, SERVERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 2))
        tasks.processes["worker 1"].kill()
        codes = tasks.wait()
    assert codes == {"ps 0": 0, "ps 1": 0, "worker 0": 0, "worker 1": -9, "chief 0": 0}, tasks.log("chief 0")
    assert len(records(config)) == EPOCHS


@pytest.mark.parametrize("place", [0, 1])
def test_a_server_that_is_killed_stops_the_run_and_it_goes_on_from_the_checkpoint(workdir, tmp_path, place):
    victim = f"ps {place}"
    config = config_of(workdir, f"without-{place}", *SHARDED, *MANY)
    with started(config, tmp_path / "first", SERVERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 2))
        tasks.processes[victim].kill()
        codes = tasks.wait()
    assert codes.pop(victim) == -9
    assert set(codes.values()) == {1}, tasks.log("chief 0")
    assert re.search(r"error: .*parameter server.*Cure: .*`--resume`", tasks.log("chief 0"))
    logs = trained(config, tmp_path / "second", SERVERS, "--resume")
    assert "resuming from epoch" in logs["chief 0"]
    assert len(records(config)) == EPOCHS


def test_a_run_without_a_worker_left_stops(workdir, tmp_path):
    config = config_of(workdir, "no-worker", *SHARDED, *MANY)
    with started(config, tmp_path, SERVERS) as tasks:
        tasks.until(lambda: has_checkpoint(config, 2))
        for place in (0, 1):
            tasks.processes[f"worker {place}"].kill()
        assert tasks.wait()["chief 0"] == 1
    assert re.search(r"error: all workers of this run are gone.*Cure: .*`--resume`", tasks.log("chief 0"))
    assert has_checkpoint(config, 2)
