"""beam_jobs/title_neighbours.py against brute-force cosines, and one day's artefact from the day's before."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from beam_fixtures import small_config, small_parts
from hypothesis import given
from hypothesis import strategies as st
from test_exact_search import hard_vectors
from title_fixtures import DIM, SCHEMA, toy_folder, vector_of, write_titles

from beam_jobs import title_embeddings, title_neighbours
from beam_jobs.item_embeddings import ItemEmbeddings, digest_words, vector_digests
from beam_jobs.title_neighbours import Finder, read_parts
from pipeline.artifacts import Artifact
from pipeline.catalogue import Vocabularies, titles
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.tables import FieldSchema, Schema, Tables


@pytest.fixture(autouse=True)
def encoder(monkeypatch, tmp_path):
    return toy_folder(monkeypatch, tmp_path / "encoder")


def prepare(config: Config, names: list[str | None], schema: Schema = SCHEMA) -> tuple[Artifact, list[str]]:
    write_titles(config, {f"i{i}": name for i, name in enumerate(names)}, schema)
    artifact = title_neighbours.run(config)
    return artifact, titles(Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies")))


def arrays(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    table = read_parts(artifact)
    return np.array(table["neighbours"].to_pylist()), np.array(table["scores"].to_pylist(), np.float32)


NAMES: list[str | None] = [f"title {i % 17}" if i % 5 else [None, ""][i % 2] for i in range(40)]


def test_each_titled_item_has_its_nearest_titles(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=8)
    monkeypatch.setattr(title_embeddings, "TITLES_PER_PART", 3)
    monkeypatch.setattr(title_neighbours, "ROWS_AT_ONCE", 7)
    config = small_config(tmp_path, prepare={"partitions": 3, "titles": {"neighbours": 4, "max_tokens": 3}})
    artifact, of_rows = prepare(config, NAMES)
    neighbours, scores = arrays(artifact)
    titled = [row for row, title in enumerate(of_rows) if title]
    for row in range(len(of_rows)):
        if row not in titled:
            assert neighbours[row].tolist() == [0] * 4
            assert not scores[row].any()
            continue
        similarity = {r: float(vector_of(of_rows[row]) @ vector_of(of_rows[r])) for r in titled if r != row}
        found = neighbours[row].tolist()
        assert len(set(found) - {row, 0}) == 4
        np.testing.assert_allclose(scores[row], sorted(similarity.values(), reverse=True)[:4], atol=1e-6)
        np.testing.assert_allclose(scores[row], [similarity[r] for r in found], atol=1e-6)
    counts = artifact.counts
    distinct = {title for title in of_rows if title}
    assert counts["titles_distinct"] == counts["titles_embedded"] == len(distinct)
    assert (counts["titles_truncated"], counts["titles_reused"]) == (0, 0)
    assert counts["items_with_vector"] == len(titled) == counts["items_searched"] == counts["neighbours"] / 4
    assert counts["items_without_vector"] == len(of_rows) - 1 - len(titled)


def test_too_few_titles_are_padded(tmp_path):
    artifact, of_rows = prepare(small_config(tmp_path, prepare={"titles": {"neighbours": 5}}), ["one", "two", None])
    neighbours, scores = arrays(artifact)
    one, two = of_rows.index("one"), of_rows.index("two")
    assert (neighbours[one].tolist(), neighbours[two].tolist()) == ([two, 0, 0, 0, 0], [one, 0, 0, 0, 0])
    assert not scores[one, 1:].any()


@pytest.mark.parametrize("names", [[None, ""], []])
def test_without_titles_no_encoder_is_needed(tmp_path, monkeypatch, names):
    monkeypatch.setattr(title_embeddings, "find_encoder", None)
    artifact, of_rows = prepare(small_config(tmp_path), names)
    neighbours, scores = arrays(artifact)
    assert not neighbours.any()
    assert neighbours.shape == scores.shape == (len(of_rows), 50)


def test_without_a_title_field_it_is_the_same(tmp_path):
    artifact, _ = prepare(small_config(tmp_path), ["a", "b"], Schema((FieldSchema("name", "categorical"),)))
    assert artifact.counts["titles_distinct"] == 0


def test_a_missing_encoder_is_an_error_before_anything_runs(tmp_path, monkeypatch):
    def missing(spec: str) -> None:
        raise ConfigError("no encoder")

    monkeypatch.setattr(title_embeddings, "find_encoder", missing)
    config = small_config(tmp_path)
    with pytest.raises(ConfigError, match="no encoder"):
        prepare(config, NAMES)
    assert not config.prepared_dir("title_neighbours").exists()


# ---- from one day to the next


def test_the_next_day_updates_what_it_can_and_writes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(title_neighbours, "ROWS_AT_ONCE", 16)
    settings = {"prepare": {"titles": {"neighbours": 3}}}
    config = small_config(tmp_path / "daily", **settings)
    first = {f"i{i}": f"title {i % 90}" for i in range(100)}
    write_titles(config, first)
    title_neighbours.run(config)
    second = {**first, "i7": "another name", "new 1": "title 3", "new 2": "fresh", "untitled": None}
    del second["i50"]
    write_titles(config, second, seed=18)  # other events: other row numbers
    daily = title_neighbours.run(config)
    assert daily.counts["titles_embedded"] == 2
    assert daily.counts["items_updated"] > daily.counts["items_searched"] > 2
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    for place in (tmp_path / "anew", f"memory://{tmp_path.name}"):  # an object store, too
        anew = small_config(place, **settings)
        write_titles(anew, second, seed=18)
        assert title_neighbours.run(anew).fingerprint == daily.fingerprint


def test_other_weights_are_another_day_one(tmp_path, encoder):
    config = small_config(tmp_path)
    first, _ = prepare(config, NAMES)
    assert title_neighbours.run(config).manifest["run"] == first.manifest["run"]
    (encoder / "model.safetensors").write_bytes(b"other weights")
    second = title_neighbours.run(config)
    assert second.counts["titles_embedded"] == second.counts["titles_distinct"]


def test_another_number_of_neighbours_is_searched_anew(tmp_path):
    config = small_config(tmp_path, prepare={"titles": {"neighbours": 3}})
    prepare(config, NAMES)
    config.prepare.titles.neighbours = 5
    assert title_neighbours.run(config).counts["items_updated"] == 0
    assert arrays(title_neighbours.run(config))[0].shape[1] == 5


def embedded(catalogue: dict[str, np.ndarray | None], random: np.random.Generator) -> ItemEmbeddings:
    """Items and their vectors, in random rows behind the unknown item."""
    ids = list(catalogue)
    random.shuffle(ids)
    vectors = np.zeros((1 + len(ids), DIM), np.float32)
    for row, item in enumerate(ids, start=1):
        vectors[row] = 0 if catalogue[item] is None else catalogue[item]
    return ItemEmbeddings(vectors, pa.array(["", *ids]), digest_words(vector_digests(vectors)))


def searched(items: ItemEmbeddings, k: int, earlier: pa.Table | None) -> pa.Table:
    finder, rows = Finder(items, k, earlier), np.arange(len(items.ids))
    return finder.table(rows, finder.lists(rows)[0])


days = st.lists(
    st.fixed_dictionaries({"added": st.integers(0, 8), "removed": st.integers(0, 4), "renamed": st.integers(0, 3)}),
    min_size=2,
    max_size=5,
)


@given(st.integers(0, 10_000), days, st.integers(1, 6))
def test_day_by_day_is_the_same_as_from_nothing(seed, days, k):
    random = np.random.default_rng(seed)
    pool = [*hard_vectors(random, 12, DIM), None]
    catalogue: dict[str, np.ndarray | None] = {}
    daily, born = None, 0
    for day in days:
        for _ in range(min(day["removed"], len(catalogue))):
            del catalogue[random.choice(list(catalogue))]
        renamed = (
            random.choice(list(catalogue), min(day["renamed"], len(catalogue)), replace=False) if catalogue else []
        )
        fresh = [hashlib.md5(str(born + i).encode()).hexdigest()[:3] for i in range(day["added"])]
        catalogue |= {str(item): pool[random.integers(len(pool))] for item in (*renamed, *fresh)}
        born += day["added"]
        items = embedded(catalogue, random)
        daily = searched(items, k, daily)
        assert daily.equals(searched(items, k, None))
