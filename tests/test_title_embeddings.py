"""beam_jobs/title_embeddings.py: every title is embedded once, and a killed run loses one batch at most."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from beam_fixtures import small_config
from conftest import ROOT
from title_fixtures import toy_folder, vector_of

from beam_jobs import title_embeddings
from beam_jobs.title_embeddings import TitleStore, embed_titles, encoder_key
from pipeline.config import Config, TitleConfig


@pytest.fixture(autouse=True)
def encoder(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(title_embeddings, "TITLES_PER_BATCH", 5)
    monkeypatch.setattr(title_embeddings, "TITLES_PER_PART", 2)
    return toy_folder(monkeypatch, tmp_path / "encoder")


@pytest.fixture
def config(tmp_path) -> Config:
    return small_config(tmp_path, prepare={"titles": {"max_tokens": 3}})


def names(start: int, stop: int) -> list[str]:
    return [f"title {i}" for i in range(start, stop)]


def found(store: TitleStore, titles: list[str]) -> dict[str, np.ndarray]:
    """The vector the store has of each title."""
    return {
        titles[place]: np.array(vector, np.float32)
        for which, part in store.lookup(titles)
        for place, vector in zip(which, part["vector"].to_pylist(), strict=True)
    }


def test_only_what_the_store_lacks_is_embedded(config):
    store, counts = embed_titles(config, "key", names(0, 12))
    assert counts == {"titles_distinct": 12, "titles_embedded": 12, "titles_reused": 0}
    assert [batch.counts["titles"] for batch in store.batches] == [5, 5, 2]
    manifests = [batch.manifest for batch in store.batches]
    store, counts = embed_titles(config, "key", names(8, 15))
    assert counts == {"titles_distinct": 7, "titles_embedded": 3, "titles_reused": 4}
    assert [batch.manifest for batch in store.batches[:3]] == manifests
    vectors = found(store, names(0, 15))
    for title in names(0, 15):
        np.testing.assert_array_equal(vectors[title], vector_of(title))
    assert embed_titles(config, "key", names(3, 9))[1]["titles_embedded"] == 0


def test_repeated_and_unknown_titles_are_looked_up_by_place(config):
    store, _ = embed_titles(config, "key", names(0, 7))
    places = np.concatenate([which for which, _ in store.lookup(["title 6", "nobody", "", "title 0", "title 6"])])
    assert sorted(places.tolist()) == [0, 3, 4]


def test_a_truncated_title_is_marked(config):
    store, _ = embed_titles(config, "key", ["one two three four", "one"])
    marks = {
        int(place): mark
        for which, part in store.lookup(["one two three four", "one"])
        for place, mark in zip(which, part["truncated"].to_pylist(), strict=True)
    }
    assert marks == {0: True, 1: False}


KILLED = """
import os, signal, sys
from pathlib import Path
from beam_fixtures import small_config
from title_fixtures import ToyEncoder
from beam_jobs import title_embeddings

class KilledEncoder(ToyEncoder):
    def encode(self, texts):
        if "title 17" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)

title_embeddings.TITLES_PER_BATCH, title_embeddings.TITLES_PER_PART = 5, 2
title_embeddings.TitleEncoder = KilledEncoder
config = small_config(Path(sys.argv[1]), prepare={"titles": {"max_tokens": 3}})
title_embeddings.embed_titles(config, "key", [f"title {i}" for i in range(10, 23)])
"""


def test_a_killed_run_loses_the_batch_it_was_at_and_the_next_one_continues(config, tmp_path):
    # The titles go in order: batches 10 .. 14, 15 .. 19 and 20 .. 22, each in parts of two.
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ | {"PYTHONPATH": path})
    assert process.returncode == -signal.SIGKILL
    folder = config.prepared_dir("title_embeddings") / "key"
    assert len(list((folder / "00001").glob("run=*"))) == 1  # what the killed run left behind
    assert len(TitleStore.read(folder).batches) == 1
    store, counts = embed_titles(config, "key", names(10, 23))
    assert counts == {"titles_distinct": 13, "titles_embedded": 8, "titles_reused": 5}
    assert [len(list(batch.path.glob("run=*"))) for batch in store.batches] == [1, 1, 1]
    for title, vector in found(store, names(10, 23)).items():
        np.testing.assert_array_equal(vector, vector_of(title))


def test_a_damaged_batch_is_embedded_anew(config):
    store, _ = embed_titles(config, "key", names(0, 12))
    store.batches[1].file("part-00000.parquet").write_bytes(b"")
    store, counts = embed_titles(config, "key", names(0, 12))
    assert counts["titles_embedded"] == 7
    assert sorted(found(store, names(0, 12))) == sorted(names(0, 12))


def test_the_key_covers_every_file_and_setting_that_matters(encoder):
    first = encoder_key(TitleConfig())
    assert encoder_key(TitleConfig(neighbours=3)) == first
    keys = {first, encoder_key(TitleConfig(max_tokens=9))}
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (encoder / name).write_text("other")
        keys.add(encoder_key(TitleConfig()))
    assert len(keys) == 5
