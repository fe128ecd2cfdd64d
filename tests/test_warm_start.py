"""Warm start: rows follow the values they stand for, new ones begin as a mean, and what does not fit is refused."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from beam_fixtures import run_through
from hypothesis import given
from hypothesis import strategies as st
from train_fixtures import EAGER_DATA, at_step, config_of, eagerly, model_of, prepare_log, records, send, variables

from pipeline.artifacts import Artifact, Spec, create, open_artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError, ConfigError, TrainingInterruptedError
from pipeline.importers import import_source
from pipeline.tables import Tables
from pipeline.train import load_model, train
from pipeline.vocabulary import Vocabulary
from pipeline.warm_start import Rows, find_source
from serving.bundle import VERSION

STILL = ("train.learning_rate=1e-30", "train.max_epochs=1", "train.warm_start_field=category")
"""Steps that change no weight: what is left is what the run began with."""
ADAGRAD = "train.optimizer=adagrad"
TABLE = "model/item_embeddings/item_id_embedding/.ATTRIBUTES/VARIABLE_VALUE"


pytestmark = pytest.mark.filterwarnings(EAGER_DATA)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    yield from eagerly()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    """A run of 40 items, a checkpoint of another; then a log of other items, prepared anew."""
    folder = str(tmp_path_factory.mktemp("warm"))
    prepare_log(folder)
    train(config_of(folder, "old", ADAGRAD))
    with at_step(2, send(signal.SIGTERM)), pytest.raises(TrainingInterruptedError):
        train(config_of(folder, "stopped"))
    config = config_of(folder, "any", "source.demo={users: 60, items: 60, events: 700, seed: 5}")
    import_source(config)
    run_through(config, "user_sequences")
    return folder


@pytest.fixture(scope="module")
def grown(workdir) -> Config:
    config = config_of(workdir, "grown", ADAGRAD, *STILL, "train.warm_start=old")
    train(config)
    return config


def names(artifact: Artifact, file: str) -> list[str]:
    """The values that rows 1, 2, ... stand for."""
    return pq.read_table(artifact.location(f"vocabularies/{file}"))["value"].to_pylist()


@pytest.mark.parametrize(("file", "table"), [("items.parquet", "item_id"), ("item.category.parquet", "category")])
def test_known_values_keep_their_rows_and_their_accumulators(workdir, grown, file, table):
    old, new = model_of(config_of(workdir, "old")), model_of(grown)
    key = TABLE.replace("item_id", table)
    before, after = (variables(artifact, "weights")[key] for artifact in (old, new))
    rows_before = {value: row for row, value in enumerate(names(old, file), start=1)}
    rows_after = {value: row for row, value in enumerate(names(new, file), start=1)}
    kept = sorted(rows_before.keys() & rows_after.keys())
    assert len(kept) >= 3
    assert [rows_before[v] for v in kept] != [rows_after[v] for v in kept]  # or nothing is tested
    for value in kept:
        assert np.array_equal(before[rows_before[value]], after[rows_after[value]]), value
    assert np.array_equal(before[0], after[0])


def test_a_new_item_begins_as_the_mean_of_its_category(workdir, grown):
    old, new = model_of(config_of(workdir, "old")), model_of(grown)
    table, known = variables(new, "weights")[TABLE], set(names(old, "items.parquet"))
    items = Tables.read(grown.tables_dir).items()
    category = dict(zip(items["item_id"].to_pylist(), items["category"].to_pylist(), strict=True))
    row = {value: number for number, value in enumerate(names(new, "items.parquet"), start=1)}
    fresh = [value for value in row if value not in known]
    assert len(fresh) > 5
    for value in fresh:
        alike = [row[other] for other in row if other in known and category[other] == category[value]]
        expected = table[alike or [row[other] for other in row if other in known]].mean(axis=0)
        assert table[row[value]] == pytest.approx(expected, abs=1e-6), value


def test_layers_are_taken_over_and_the_steps_begin_anew(workdir, grown):
    before, after = (variables(model_of(c), "weights") for c in (config_of(workdir, "old"), grown))
    layers = [name for name in before if "tower/mlp" in name or "transformer" in name]
    assert layers
    assert all(np.array_equal(before[name], after[name]) for name in layers)
    iterations = next(name for name in after if "iterations" in name)
    assert after[iterations] == -(-model_of(grown).counts["examples"] // 128)


def test_adagrad_keeps_how_far_each_known_row_has_come(workdir, grown):
    old, new = model_of(config_of(workdir, "old")), model_of(grown)
    slot = "model/optimizer/_variables/1/.ATTRIBUTES/VARIABLE_VALUE"  # of item_id, the first trainable variable
    before, after = variables(old, "weights")[slot], variables(new, "weights")[slot]
    first = {value: row for row, value in enumerate(names(old, "items.parquet"), start=1)}
    common = [(first[v], row) for row, v in enumerate(names(new, "items.parquet"), start=1) if v in first]
    moved = [np.all(after[now] >= before[then] - 1e-7) for then, now in common]
    assert all(moved)
    assert max(before[then].max() for then, _ in common) > 0.1


def known_items(config: Config) -> np.ndarray:
    """The items whose rows have learned, as the model says it."""
    return np.flatnonzero(variables(model_of(config), "weights")["model/cold_start/known/.ATTRIBUTES/VARIABLE_VALUE"])


def test_an_item_that_was_trained_before_stays_known_without_a_train_event(workdir, grown):
    once = ("tower.id_dropout=0.2", "train.max_epochs=1")
    runs = [("fresh", []), ("second", ["train.warm_start=old"]), ("third", ["train.warm_start=second"])]
    fresh, second, third = (config_of(workdir, name, *once, *source) for name, source in runs)
    for config in (fresh, second, third):
        train(config)
    old = Vocabulary.read(model_of(config_of(workdir, "old")).location("vocabularies/items.parquet"))
    trained = {value for value, count in zip(old.values.to_pylist(), old.counts, strict=True) if count}
    silent = [row for row, value in enumerate(names(model_of(grown), "items.parquet"), start=1) if value in trained]
    assert set(silent) - set(known_items(fresh))  # or nothing is tested
    assert set(known_items(second)) == set(known_items(third)) == set(known_items(fresh)) | set(silent)
    assert load_model(third).item_table.columns["item_id"].numpy()[silent].tolist() == silent


def test_without_an_epoch_a_model_is_moved_to_the_catalogue_of_now(workdir, grown):
    config = config_of(workdir, "moved", "train.warm_start=old", "train.max_epochs=0", "tower.id_dropout=0.2")
    assert train(config).counts.keys() == {"examples", "epochs", "best_epoch"}  # and no HIT, which nobody measured
    assert model_of(config).counts["epochs"] == 0
    before, after = (variables(model_of(c), "weights") for c in (config_of(workdir, "old"), config))
    rows = {
        value: row for row, value in enumerate(names(model_of(config_of(workdir, "old")), "items.parquet"), start=1)
    }
    for row, value in enumerate(names(model_of(config), "items.parquet"), start=1):
        assert value not in rows or np.array_equal(after[TABLE][row], before[TABLE][rows[value]]), value
    assert len(load_model(config).item_vectors(np.arange(1, 61, dtype=np.int32))) == 60


def test_a_checkpoint_can_be_begun_with(workdir):
    config = config_of(workdir, "from-checkpoint", *STILL, f"train.warm_start={workdir}/runs/stopped/checkpoint")
    train(config)
    layer = "model/item_tower/mlp/inner/0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    checkpoint = Path(workdir) / "runs" / "stopped" / "checkpoint"
    stopped = variables(open_artifact(checkpoint, "checkpoint", 1), "state")
    assert np.array_equal(variables(model_of(config), "weights")[layer], stopped[layer])


def test_a_bundle_stands_for_the_model_it_was_made_of(workdir, grown):
    bundle = Path(workdir) / "bundles" / "grown"
    with create(bundle, Spec("bundle", VERSION, {"model": model_of(grown).fingerprint})):
        pass
    config = config_of(workdir, "from-bundle", f"train.warm_start={bundle}")
    assert find_source(config) == model_of(grown)
    with create(bundle, Spec("bundle", VERSION, {"model": "another"})):
        pass
    with pytest.raises(ArtifactError, match=r"was made of another model than .*Cure: name the run"):
        find_source(config)


def test_a_run_that_begins_with_itself_is_trained_once_a_day(workdir):
    config = config_of(workdir, "daily", "train.max_epochs=1")
    train(config)
    again = config_of(workdir, "daily", "train.max_epochs=1", "train.warm_start=daily")
    warm = train(again)
    assert warm.manifest["run"] == train(again).manifest["run"]
    assert records(again)[0]["loss"] != pytest.approx(0)


def test_the_first_day_of_a_run_that_begins_with_itself_is_from_random_weights(workdir, capsys):
    config = config_of(workdir, "daily-alone", "train.max_epochs=1", "train.warm_start=daily-alone")
    first = train(config)
    assert "has no model yet and begins with random weights" in capsys.readouterr().err
    assert train(config).manifest["run"] == first.manifest["run"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["train.warm_start=refused", "train.max_epochs=0"], ArtifactError, r"'refused' is no run of"),
        (["train.warm_start=nobody"], ArtifactError, r"'nobody' is no run of .*'old'.*Cure: name one"),
        (["train.warm_start=old", "tower.hidden=[12,6]"], ConfigError, r"here it is \[.*Cure: the `tower` settings"),
        (
            ["train.warm_start=old", "tower.blocks=2"],
            ConfigError,
            r"was trained with `tower\.blocks` 1\. Cure: the same",
        ),
        (["train.warm_start=old", "tower.heads=4"], ConfigError, r"was trained with `tower\.heads` 2\. Cure: the same"),
        (
            ["train.warm_start=stopped"],
            ArtifactError,
            r"the run 'stopped' has no model\. Cure: train it to its end, or",
        ),
        (["train.warm_start=old", "train.warm_start_field=titel"], ConfigError, r"'titel'\. Cure: one of .*'category'"),
        (
            ["train.warm_start={workdir}/prepared/vocabularies"],
            ArtifactError,
            r"is a vocabularies artefact\. Cure: name a run",
        ),
    ],
)
def test_what_cannot_be_begun_with_is_refused(workdir, settings, error, message):
    with pytest.raises(error, match=message):
        train(config_of(workdir, "refused", *(each.replace("{workdir}", workdir) for each in settings)))


def test_a_run_cannot_begin_with_the_checkpoint_it_replaces(workdir):
    own = config_of(workdir, "stopped", f"train.warm_start={workdir}/runs/stopped/checkpoint")
    with pytest.raises(ConfigError, match=re.escape("own checkpoint, which it will replace. Cure: `--resume`")):
        train(own)


@given(st.integers(0, 10_000))
def test_rows_against_a_loop(seed):
    random = np.random.default_rng(seed)
    old = random.normal(size=(9, 3))
    matched = np.where(random.random(12) < 0.5, random.integers(1, 9, 12), 0)
    matched[0] = 0
    matched[1] = 4  # something is known
    group = random.integers(0, 4, 12)
    found = Rows(matched, group).grown(old)
    known = np.flatnonzero(matched)
    assert np.array_equal(found[0], old[0])
    for row in range(1, 12):
        alike = [k for k in known if group[k] == group[row]] or list(known)
        expected = old[matched[row]] if matched[row] else np.mean([old[matched[k]] for k in alike], axis=0)
        assert found[row] == pytest.approx(expected)
