"""The training stage on a small demo log: what it keeps, repeats, skips and refuses."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from beam_fixtures import run_through
from train_fixtures import config_of, prepare_log, records

from pipeline.artifacts import open_artifact
from pipeline.errors import ArtifactError, TrainingError
from pipeline.train import load_model, train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("train"))
    prepare_log(folder)
    return folder


def test_the_best_epoch_is_kept_and_told(workdir, capsys):
    config = config_of(workdir, "best")
    artifact = train(config)
    assert "`train.monitor` is 50, but only" in capsys.readouterr().err
    hits = [record["validation"]["HIT@50"] for record in records(config)]
    assert artifact.counts["best_epoch"] == 1 + int(np.argmax(hits))
    assert artifact.counts["validation_hit_at_50"] == round(max(hits), 5)


def test_a_seed_repeats_a_run(workdir):
    first, again, other = (
        config_of(workdir, name, f"train.seed={seed}") for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    vectors = []
    for config in (first, again, other):
        train(config)
        vectors.append(load_model(config).item_vectors(np.arange(1, 30, dtype=np.int32)))
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_a_model_loads_in_a_fresh_process(workdir):
    config = config_of(workdir, "fresh")
    train(config)
    here = load_model(config).item_vectors(np.arange(1, 6, dtype=np.int32))
    script = (
        "import sys, json, numpy as np; from pipeline.config import Config; from pipeline.train import load_model;"
        "model = load_model(Config.model_validate(json.loads(sys.argv[1])));"
        "print(json.dumps(model.item_vectors(np.arange(1, 6, dtype=np.int32)).tolist()))"
    )
    arguments = [sys.executable, "-c", script, config.model_dump_json()]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert np.array_equal(np.float32(json.loads(done.stdout)), here)


def test_nothing_is_trained_twice(workdir):
    config = config_of(workdir, "once")
    assert train(config).manifest["run"] == train(config).manifest["run"]


def test_training_stops_when_validation_stops_improving(workdir):
    config = config_of(workdir, "patience", "train.max_epochs=15", "train.patience=1", "train.learning_rate=0.1")
    counts = train(config).counts
    assert counts["epochs"] == counts["best_epoch"] + 1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_model(workdir):
    config = config_of(workdir, "diverges")
    before = train(config)
    worse = config_of(workdir, "diverges", "train.learning_rate=1e30", "tower.normalize=false")
    with pytest.raises(TrainingError, match=r"the loss is .* in epoch 1, step \d+; its batch.*\. Cure: a smaller"):
        train(worse)
    assert open_artifact(config.run_dir / "model", "model", 1).manifest == before.manifest


def test_a_model_of_another_tower_is_refused(workdir):
    train(config_of(workdir, "tower"))
    with pytest.raises(ArtifactError, match=r"was trained with other `tower` settings\. Cure: train again"):
        load_model(config_of(workdir, "tower", "tower.normalize=false"))


def test_a_model_of_other_vocabularies_is_refused(workdir, tmp_path):
    train(config_of(workdir, "vocabularies"))
    shutil.copytree(workdir, tmp_path / "copy")
    config = config_of(str(tmp_path / "copy"), "vocabularies", "prepare.min_value_count=4")
    run_through(config, "vocabularies")
    with pytest.raises(ArtifactError, match="was trained with other vocabularies"):
        load_model(config)


def test_altered_weights_are_refused(workdir, tmp_path):
    train(config_of(workdir, "altered"))
    shutil.copytree(workdir, tmp_path / "copy")
    config = config_of(str(tmp_path / "copy"), "altered")
    (weights,) = config.run_dir.glob("model/run=*/weights.index")
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(ArtifactError, match=r"the weights at .* cannot be read"):
        load_model(config)
