"""The figures of the public data sets that every peer was measured on."""

from pathlib import Path

import pytest

from pipeline.config_file import load_config
from pipeline.importers import import_source
from pipeline.prepare import prepare
from pipeline.sequences import UserSequences

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@pytest.mark.parametrize(
    ("name", "settings", "users", "items", "train_events"),
    [("ml-1m", [], 6034, 3525, 563_204), ("ifdb", ["split.refit=true"], 3061, 8512, 93_186)],
)
def test_train_users_items_and_events(shared_data, tmp_path, name, settings, users, items, train_events):
    config = load_config(
        CONFIGS / f"{name}.yaml", [f"workdir={tmp_path}", f"source.path={shared_data / name}", *settings]
    )
    import_source(config)
    jobs = ["day_events", "window_events", "catalogue_counts", "vocabularies", "user_sequences"]
    counts = prepare(config, only=jobs)["vocabularies"].counts
    assert (counts["items_trained"], counts["train_events"]) == (items, train_events)
    read = UserSequences.read(config.prepared_dir("user_sequences"))
    assert ((read.train_end > 0).sum(), read.train_rows().sum()) == (users, train_events)
