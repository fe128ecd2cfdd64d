"""Several devices compute what one does; and what cannot be spread over them is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_dataset import sequences
from tower_fixtures import ROWS, small_config, users
from train_fixtures import config_of

from pipeline.cluster import VARIABLE, Cluster
from pipeline.dataset import TrainDataset
from pipeline.errors import ConfigError
from pipeline.train import train


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What tests/two_devices.py has found out."""
    command = [sys.executable, str(ROOT / "tests" / "two_devices.py"), str(tmp_path_factory.mktemp("two"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


# --- two logical devices ---


def test_every_task_has_the_losses_of_one_device(found):
    one, two = found["tasks"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["means"] == pytest.approx(one["means"], rel=1e-5)


def test_every_task_leads_to_the_weights_of_one_device(found):
    assert found["apart"] < 1e-5


@pytest.mark.parametrize("devices", ["two-one", "one-two"])
def test_a_run_resumed_on_more_or_fewer_devices_is_that_of_one_device(found, devices):
    """With all kinds of negatives; weights, optimiser, queue and estimated frequencies, in float32."""
    resumed = found["resumed"][devices]
    assert resumed["epochs"][0] == pytest.approx(resumed["epochs"][1], rel=1e-5)
    assert resumed["variables"] > 50
    assert resumed["difference"] < 1e-4


def test_a_run_on_two_devices_in_mixed_precision_is_watched_as_any_other(found):
    assert {"learning_rate", "loss/retrieval", "loss/total", "norm/gradients", "norm/item_id"} <= set(found["watched"])
    assert "norm/user.gender" in found["watched"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_gradient_of_a_gathered_row_goes_back_to_where_it_came_from(found, precision):
    """Rows 2 and 3, 3: the loss of replica r is (r + 1) times the sum of squares of all of them."""
    assert found["gathering"][precision] == [[[12.0, 12.0]], [[18.0, 18.0], [18.0, 18.0]]]


def test_only_draws_for_own_rows_differ_between_devices(found):
    first, second = found["draws"]["common"]
    assert first == second
    first, second = found["draws"]["own"]
    assert not set(first) & set(second)


# --- a worker's share ---


@pytest.mark.parametrize("sampling", ["recent", "others"])
def test_the_shares_of_the_workers_are_the_batch(sampling):
    config = small_config("train.batch_size=7", f"train.history_sampling={sampling}", "loss.negatives.uniform=5")
    whole, *parts = (
        TrainDataset(config, sequences(), users(), ROWS, part).batches(2) for part in ((0, 1), (0, 3), (1, 3), (2, 3))
    )
    for batch, *shares in zip(whole, *parts, strict=True):
        places = np.cumsum([0, *(len(share["positive"]) for share in shares)])
        clicked_by = [share["clicked_by"] + place for share, place in zip(shares, places, strict=False)]
        assert np.array_equal(np.concatenate(clicked_by), batch["clicked_by"])
        for name in batch.keys() - {"uniform_negatives", "clicked_by", "distinct_items", "item_rows"}:
            assert np.array_equal(np.concatenate([share[name] for share in shares]), batch[name])
        assert all(np.array_equal(share["uniform_negatives"], batch["uniform_negatives"]) for share in shares)


# --- what is refused ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.devices=2"], r"`train\.devices` is 2, but `train\.distribute` is none\. Cure: `mirrored`"),
        (["train.distribute=mirrored"], r"TensorFlow sees no GPU.*Cure: `none`; or a driver"),
        (["train.distribute=multi_worker"], r"TF_CONFIG is not set\. Cure: start `twotower train` once for every task"),
        (["train.distribute=parameter_server", "loss.negatives.queue=9"], r"`loss\.negatives\.queue` is set.*Cure"),
        (["train.distribute=parameter_server", "loss.negatives.hard.count=2"], r"`loss\.negatives\.hard` is set.*Cure"),
        (["train.distribute=parameter_server", "loss.frequency.source=streaming"], r"`loss\.frequency\.source` is set"),
        (["train.distribute=parameter_server", "train.deterministic=true"], r"`train\.deterministic` is set.*Cure"),
        (["train.distribute=parameter_server", "train.precision=float16"], r"`train\.precision` is set.*Cure"),
        (
            ["train.distribute=parameter_server", "workdir=memory://any"],
            r"object store memory:.*Cure: a folder",
        ),
        (["train.distribute=parameter_server", "train.warm_start=base"], r"`train\.warm_start` is set.*Cure"),
    ],
)
def test_what_cannot_be_distributed_is_refused(tmp_path, monkeypatch, settings, message):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=message):
        train(config_of(str(tmp_path), "refused", *settings))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("multi_worker", "{", r"TF_CONFIG is not what .* multi_worker needs \(JSONDecodeError.*Cure: \{"),
        ("multi_worker", '{"cluster": {"worker": ["a:1"]}}', r"KeyError: 'task'.*Cure"),
        (
            "multi_worker",
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            r"the cluster has no 'worker' 1\).*Cure",
        ),
        (
            "multi_worker",
            '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]}, "task": {"type": "worker", "index": 0}}',
            r"no task is of the type 'ps'; there are \['chief', 'worker'\]",
        ),
        (
            "parameter_server",
            '{"cluster": {"worker": ["a:1"], "ps": ["a:2"]}, "task": {"type": "worker", "index": 0}}',
            r"the cluster has no 'chief'",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(monkeypatch, kind, text, message):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=message):
        Cluster.from_environment(kind)


@pytest.mark.parametrize(
    ("roles", "task", "number", "workers"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), 1, 2),
        ({"chief": ["c:1"], "worker": ["a:1", "b:1"]}, ("worker", 1), 2, 3),
        ({"chief": ["c:1"], "worker": ["a:1", "b:1"]}, ("chief", 0), 0, 3),
    ],
)
def test_workers_are_numbered_from_the_chief(monkeypatch, roles, task, number, workers):
    monkeypatch.setenv(VARIABLE, json.dumps({"cluster": roles, "task": {"type": task[0], "index": task[1]}}))
    cluster = Cluster.from_environment("multi_worker")
    assert (cluster.number, cluster.workers, cluster.serves) == (number, workers, False)
