"""What a run records: event files that say what metrics.jsonl says, a projector, and a description of the run."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from train_fixtures import EAGER_DATA, config_of, curves, eagerly, model_of, prepare_log, records, variables

from pipeline.config import Config
from pipeline.run_folder import environment
from pipeline.storage import locate, put, sizes
from pipeline.train import load_model, train
from towers.keras import tf

SETTINGS = (
    "watch.tensorboard=true",
    "watch.every_steps=2",
    "watch.projector_items=10",
    "train.batch_size=64",
    "train.monitor=5",
)


pytestmark = pytest.mark.filterwarnings(EAGER_DATA)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    yield from eagerly()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("watch"))
    prepare_log(folder)
    return folder


@pytest.fixture(scope="module")
def config(workdir) -> Config:
    config = config_of(workdir, "watched", *SETTINGS, "tasks.feature_level={weight: 0.1, batch_size: 16, negatives: 4}")
    train(config)
    return config


def test_losses_of_every_task_are_means_since_the_point_before(config):
    found = curves(config.run_dir / "tensorboard")
    assert set(found) >= {"loss/total", "loss/retrieval", "loss/feature_level", "norm/gradients", "learning_rate"}
    examples = model_of(config).counts["examples"]
    steps = -(-examples // 64)
    assert sorted(found["loss/total"]) == list(range(2, 2 * steps + 1, 2))
    for step, total in found["loss/total"].items():
        if (step - 1) % steps:  # both steps of the same epoch
            parts = found["loss/retrieval"][step] + 0.1 * found["loss/feature_level"][step]
            assert total == pytest.approx(parts, rel=1e-5)
    assert min(found["norm/gradients"].values()) > 0


def test_an_epoch_is_told_as_in_its_metrics(config):
    found = curves(config.run_dir / "tensorboard")
    for record, step in zip(records(config), sorted(found["norm/item_id"]), strict=True):
        assert record["validation"].keys() == {"HIT@5", "alignment", "uniformity_users", "uniformity_items"}
        for name, value in record["validation"].items():
            assert found[f"validation/{name}"][step] == pytest.approx(value, rel=1e-6)


def test_every_embedding_table_has_the_mean_length_of_its_rows(config):
    found, weights = curves(config.run_dir / "tensorboard"), variables(model_of(config), "weights")
    best = sorted(found["norm/item_id"])[model_of(config).counts["best_epoch"] - 1]
    for curve, layer in (("category", "item_embeddings/category"), ("user.gender", "user_embeddings/gender")):
        (name,) = (each for each in weights if each.startswith("model/") and f"{layer}_embedding/.ATTRIBUTES" in each)
        assert found[f"norm/{curve}"][best] == pytest.approx(np.linalg.norm(weights[name], axis=1).mean(), rel=1e-6)


def test_the_projector_shows_the_best_vectors_of_the_most_frequent_items_with_titles(config):
    folder = config.run_dir / "tensorboard"
    assert 'tensor_path: "item_vectors.tsv"' in (folder / "projector_config.pbtxt").read_text()
    header, *labels = [line.split("\t") for line in (folder / "item_labels.tsv").read_text().splitlines()]
    assert header == ["title", "item_id", "train_events"]
    events = [int(row[2]) for row in labels]
    assert events == sorted(events, reverse=True)
    assert len(labels) == 10
    assert all(row[0] for row in labels)
    vectors = load_model(config).item_vectors(np.arange(1, 41, dtype=np.int32))
    for row in np.loadtxt(folder / "item_vectors.tsv", delimiter="\t"):
        assert np.abs(vectors - row).max(axis=1).min() < 1e-4


def test_the_folder_describes_the_run(config):
    for folder in (config.run_dir, model_of(config).dir):
        assert Config.model_validate(yaml.safe_load((folder / "config.yaml").read_text())) == config
        environment = json.loads((folder / "environment.json").read_text())
        assert environment.keys() == {"code", "python", "packages"}
        assert environment["packages"]["tensorflow"] == tf.__version__
    assert (config.run_dir / "metrics.jsonl").read_bytes() == model_of(config).file("metrics.jsonl").read_bytes()


def test_a_package_without_a_name_is_none(tmp_path, monkeypatch):
    (tmp_path / "left_behind-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.__wrapped__()["packages"]["tensorflow"] == tf.__version__


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_in_mixed_precision_is_recorded_as_any_other(workdir, config, precision):
    short = config_of(workdir, precision, *SETTINGS, f"train.precision={precision}", "tower.id_dropout=0.1")
    train(short)
    expected = {name for name in curves(config.run_dir / "tensorboard") if name != "loss/feature_level"}
    assert set(curves(short.run_dir / "tensorboard")) == expected


def test_a_run_in_an_object_store_records_there(workdir, bucket):
    for name in sizes(Path(workdir)):
        if name.startswith(("tables", "prepared")):
            put(Path(workdir) / name, locate(bucket) / "work" / name)
    config = config_of(f"{bucket}/work", "remote", *SETTINGS)
    train(config)
    stored = set(sizes(config.run_dir))
    assert {"config.yaml", "environment.json", "metrics.jsonl", "tensorboard/item_vectors.tsv"} <= stored
    assert any(name.startswith("tensorboard/events.out") for name in stored)
