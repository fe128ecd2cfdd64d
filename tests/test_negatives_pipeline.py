"""Every kind of negatives from a log with clicks and impressions, through import and prepare, to a trained model."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from beam_fixtures import run_through
from negative_kinds import KINDS

from pipeline import demo_logs
from pipeline.artifacts import open_artifact
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.config_source import DemoSourceConfig
from pipeline.dataset import Events
from pipeline.errors import ConfigError
from pipeline.explicit_negatives import read_explicit_negatives
from pipeline.importers import import_source
from pipeline.tables import Tables
from pipeline.train import load_model, read_inputs, train
from towers.keras import tf

STATE = {
    "queue": "queue/vectors",
    "hard": "mined",
    "streaming": "frequency/interval",
    "all_at_once": "mined",
}
"""What a kind has to remember, by a part of its name in the checkpoint."""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    """Sequences from a log of clicks (1) and impressions that were not clicked (0), two before each click."""
    folder = tmp_path_factory.mktemp("negatives")
    logs = demo_logs.generate(DemoSourceConfig(users=60, items=40, events=500))
    items, rng = logs.items["item_id"].to_numpy(zero_copy_only=False), np.random.default_rng(0)
    clicks = logs.events.append_column("clicked", pa.array(np.ones(len(logs.events), np.int8)))
    shown = [
        pa.table(
            [
                logs.events["user_id"],
                pa.array(rng.choice(items, len(clicks))),
                pa.array(logs.events["timestamp"].to_numpy() - before),
                pa.array(np.zeros(len(clicks), np.int8)),
            ],
            names=clicks.column_names,
        )
        for before in (5, 9)
    ]
    pyarrow.csv.write_csv(pa.concat_tables([clicks, *shown]), folder / "events.csv")
    config = config_of(str(folder), "any")
    import_source(config)
    run_through(config, "user_sequences")
    return str(folder)


def config_of(folder: str, name: str, *overrides: str) -> Config:
    return load_config(
        None,
        [
            f"workdir={folder}/work",
            f"name={name}",
            f"source={{format: table, path: {folder}, table: {{rating: clicked}}}}",
            "source.minimum_rating=1",
            "source.keep_negatives=true",
            "tower={embedding_dim: 8, hidden: [12, 6], history_length: 4, history_dim: 8}",
            "train={batch_size: 64, max_epochs: 1}",
            *overrides,
        ],
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hashed"])
def test_a_model_is_trained_and_loads_again(workdir, kind):
    config = config_of(workdir, kind, *KINDS[kind])
    artifact = train(config)
    record = json.loads(artifact.file("metrics.jsonl").read_text())
    assert np.isfinite(record["loss"])
    assert np.all(np.isfinite(load_model(config).item_vectors(np.arange(1, 20, dtype=np.int32))))
    names = [name for name, _ in tf.train.list_variables(str(artifact.dir / "weights"))]
    assert any(STATE[kind] in name for name in names) if kind in STATE else not any("negatives" in n for n in names)


def test_a_loaded_model_needs_no_memory_of_its_negatives(workdir):
    """Evaluation and export go by the towers: a config with other negatives reads the same weights."""
    train(config_of(workdir, "plain"))
    other = config_of(workdir, "plain", *KINDS["all_at_once"])
    vectors = [load_model(config).item_vectors(np.int32([1, 2])) for config in (config_of(workdir, "plain"), other)]
    assert np.array_equal(*vectors)


def test_impressions_are_negatives_and_nothing_else(workdir):
    config = config_of(workdir, "any", "loss.negatives.explicit=2")
    tables, sequences = Tables.read(config.tables_dir), read_inputs(config).sequences
    assert tables.artifact.counts["events"] == 500
    assert tables.artifact.counts["below_minimum_rating"] == 1000
    assert len(sequences.items) <= 500
    events = Events.train(sequences)
    explicit = read_explicit_negatives(config, events)
    assert explicit is not None
    clicked = {(row, item) for row, item in zip(events.row.tolist(), events.items.tolist(), strict=True)}
    owners = np.searchsorted(explicit.starts, np.arange(len(explicit.items)), side="right") - 1
    assert len(explicit.items) > 500
    assert not clicked & set(zip(owners.tolist(), explicit.items.tolist(), strict=True))


def test_explicit_negatives_need_a_log_that_keeps_them(workdir, tmp_path):
    config = load_config(
        None, [f"workdir={tmp_path}", "source.demo={users: 30, items: 30, events: 200}", "loss.negatives.explicit=3"]
    )
    import_source(config)
    run_through(config, "user_sequences")
    with pytest.raises(ConfigError, match=r"the tables hold no explicit negatives\. Cure: set `source.keep_negatives`"):
        train(config)


def test_negatives_are_told_by_their_rating():
    with pytest.raises(ConfigError, match="`keep_negatives` needs `minimum_rating`"):
        load_config(None, ["source.keep_negatives=true"])


def test_keeping_negatives_changes_no_event(workdir, tmp_path):
    kept = config_of(workdir, "any")
    without = kept.model_copy(deep=True)
    without.source.keep_negatives, without.workdir = False, str(tmp_path / "work")
    import_source(without)
    tables = [Tables.read(config.tables_dir) for config in (kept, without)]
    assert tables[0].day_fingerprint("all") == tables[1].day_fingerprint("all")
    (file,) = tables[1].event_files
    assert "negatives.parquet" not in open_artifact(tables[1].open_events(file).path, "events", 1).manifest["files"]
