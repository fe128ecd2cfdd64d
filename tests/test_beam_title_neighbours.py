"""beam_jobs/title_neighbours.py against brute-force cosines, with a toy encoder in the place of the BERT."""

import hashlib

import faiss
import numpy as np
import pytest
from beam_fixtures import random_log, run_through, small_config, small_parts, write_log

from beam_jobs import title_neighbours
from pipeline.artifacts import Artifact
from pipeline.catalogue import Vocabularies, titles
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.tables import FieldSchema, Schema, Tables

SCHEMA = Schema((FieldSchema("name", "title"),))
DIM = 6


class ToyEncoder:
    """A unit vector drawn from each text's hash."""

    dim = DIM

    def __init__(self, spec: str, max_tokens: int, batch_size: int) -> None:
        self.max_tokens = max_tokens

    def encode(self, texts: list[str]) -> np.ndarray:
        assert len(set(texts)) == len(texts)
        seeds = [int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def truncated(self, texts: list[str]) -> int:
        return sum(len(text.split()) > self.max_tokens for text in texts)


@pytest.fixture(autouse=True)
def toy_encoder(monkeypatch, tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(title_neighbours, "TitleEncoder", ToyEncoder)
    monkeypatch.setattr(title_neighbours, "find_encoder", lambda spec: folder)


def prepare(config: Config, names: list[str | None], schema: Schema = SCHEMA) -> tuple[Artifact, list[str]]:
    write_log(config, random_log(seed=17), schema, {"item_id": [f"i{i}" for i in range(len(names))], "name": names})
    run_through(config, "vocabularies")
    artifact = title_neighbours.run(config)
    return artifact, titles(Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies")))


def arrays(artifact: Artifact) -> list[np.ndarray]:
    return [np.load(artifact.file(f"{name}.npy")) for name in ("embeddings", "neighbours", "scores")]


NAMES: list[str | None] = [f"title {i % 17}" if i % 5 else [None, ""][i % 2] for i in range(40)]


def test_each_titled_item_has_its_nearest_titles(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=8)
    monkeypatch.setattr(title_neighbours, "TITLES_AT_ONCE", 3)
    monkeypatch.setattr(title_neighbours, "QUERIES_AT_ONCE", 7)
    config = small_config(tmp_path, prepare={"partitions": 3, "titles": {"neighbours": 4, "max_tokens": 1}})
    artifact, of_rows = prepare(config, NAMES)
    embeddings, neighbours, scores = arrays(artifact)
    titled = [row for row, title in enumerate(of_rows) if title]
    expected = np.zeros((len(of_rows), DIM), np.float32)
    for row in titled:
        expected[row] = ToyEncoder("", 1, 1).encode([of_rows[row]])[0]
    np.testing.assert_array_equal(embeddings, expected)
    for row in range(len(of_rows)):
        others = [r for r in titled if r != row and row in titled]
        similarity = {r: float(expected[row] @ expected[r]) for r in others}
        best = sorted(similarity.values(), reverse=True)[:4] or [0.0] * 4
        np.testing.assert_allclose(scores[row], best, atol=1e-6)
        found = neighbours[row].tolist()
        if row in titled:
            assert len(set(found) - {row, 0}) == 4
            np.testing.assert_allclose(scores[row], [similarity[r] for r in found], atol=1e-6)
        else:
            assert found == [0] * 4
    assert (neighbours.dtype, scores.dtype) == (np.int32, np.float32)
    distinct = {title for title in of_rows if title}
    assert artifact.counts["distinct_titles"] == artifact.counts["titles_truncated"] == len(distinct)
    assert artifact.counts["items_titled"] == len(titled) == artifact.counts["neighbours"] / 4
    assert artifact.counts["items_untitled"] == len(of_rows) - 1 - len(titled)
    assert sorted(artifact.manifest["files"]) == ["embeddings.npy", "neighbours.npy", "scores.npy"]


def test_too_few_titles_are_padded(tmp_path):
    artifact, of_rows = prepare(small_config(tmp_path, prepare={"titles": {"neighbours": 5}}), ["one", "two", None])
    _, neighbours, scores = arrays(artifact)
    one, two = of_rows.index("one"), of_rows.index("two")
    assert (neighbours[one].tolist(), neighbours[two].tolist()) == ([two, 0, 0, 0, 0], [one, 0, 0, 0, 0])
    assert not scores[one, 1:].any()


@pytest.mark.parametrize("names", [[None, ""], []])
def test_without_titles_no_encoder_is_needed(tmp_path, monkeypatch, names):
    monkeypatch.setattr(title_neighbours, "find_encoder", None)
    artifact, of_rows = prepare(small_config(tmp_path), names)
    embeddings, neighbours, scores = arrays(artifact)
    assert embeddings.shape == (len(of_rows), 0)
    assert not neighbours.any()
    assert neighbours.shape == scores.shape == (len(of_rows), 50)


def test_without_a_title_field_it_is_the_same(tmp_path):
    artifact, of_rows = prepare(small_config(tmp_path), ["a", "b"], Schema((FieldSchema("name", "categorical"),)))
    assert arrays(artifact)[0].shape == (len(of_rows), 0)


def test_a_rerun_writes_identical_files_and_other_weights_a_new_artefact(tmp_path):
    config = small_config(tmp_path)
    first, _ = prepare(config, NAMES)
    (first.path / "MANIFEST.json").unlink()
    second = title_neighbours.run(config)
    assert second.fingerprint == first.fingerprint
    assert title_neighbours.run(config).manifest["run"] == second.manifest["run"]
    (tmp_path / "encoder/model.safetensors").write_bytes(b"other weights")
    assert title_neighbours.run(config).manifest["run"] != second.manifest["run"]


def test_a_missing_encoder_is_an_error_before_anything_runs(tmp_path, monkeypatch):
    def missing(spec: str) -> None:
        raise ConfigError("no encoder")

    monkeypatch.setattr(title_neighbours, "find_encoder", missing)
    config = small_config(tmp_path)
    with pytest.raises(ConfigError, match="no encoder"):
        prepare(config, NAMES)
    assert not config.prepared_dir("title_neighbours").exists()


def test_a_row_is_never_its_own_neighbour_among_many_equal_ones():
    # Ten equal vectors and k = 3: the search need not return the row itself among its first k + 1.
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    index = faiss.IndexFlatIP(2)
    index.add(vectors)
    found, scores = title_neighbours.nearest(index, vectors, np.arange(20), k=3)
    assert not (found == np.arange(20)[:, None]).any()
    np.testing.assert_array_equal(scores, np.ones((20, 3)))
    assert ((found < 10) == (np.arange(20) < 10)[:, None]).all()
