"""What is spread over several devices or workers adds up, and what cannot be spread is refused."""

import json

import numpy as np
import pytest
from test_dataset import sequences
from tower_fixtures import ROWS, small_config, users
from train_fixtures import config_of

from pipeline.cluster import VARIABLE, Cluster
from pipeline.dataset import TrainDataset
from pipeline.errors import ConfigError
from pipeline.train import train

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
