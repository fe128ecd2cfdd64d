"""beam_jobs/embedding_table.py, and what beam_jobs/item_embeddings.py makes of a table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from beam_fixtures import small_config
from hypothesis import given
from hypothesis import strategies as st
from title_fixtures import write_titles

from beam_jobs import embedding_table, item_embeddings, title_neighbours
from beam_jobs.embedding_table import table_files, unit, write_embeddings
from beam_jobs.item_embeddings import ItemEmbeddings
from beam_jobs.title_neighbours import read_parts
from pipeline.errors import ConfigError, InputError
from pipeline.vocabulary import Vocabulary

ITEMS = Vocabulary(pa.array(["a", "b", "c", "d", "e"]), np.ones(5, np.int64))


VECTOR = pa.list_(pa.float32())


def parquet(path: Path, ids: list, vectors: list, kind: pa.DataType = VECTOR) -> Path:
    columns = {"item_id": ids or pa.array([], pa.string()), "vector": pa.array(vectors, kind)}
    pq.write_table(pa.table(columns | {"price": pa.array([1.0] * len(ids), pa.float64())}), path)
    return path


def written(tmp_path: Path, path: Path) -> tuple[np.ndarray, dict[str, int]]:
    counts = write_embeddings(table_files(str(path)), ITEMS, tmp_path / "out.npy")
    return np.load(tmp_path / "out.npy"), {name: n for name, n in counts.items() if n}


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float16()), pa.list_(pa.int8())],
    ids=str,
)
def test_any_list_of_numbers_is_a_vector_of_length_one(tmp_path, kind):
    path = parquet(tmp_path / "table.parquet", ["b", "e"], [[3, 4], [0, -2]], kind)
    embeddings, counts = written(tmp_path, path)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, [[0, 0], [0, 0], [0.6, 0.8], [0, 0], [0, 0], [0, -1]], atol=1e-7)
    assert counts == {"vectors": 2}


def test_a_row_that_cannot_be_used_is_counted_by_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_table, "ROWS_AT_ONCE", 3)  # repeats lie in one block, and in two
    rows = {
        "x": [1, 1],
        None: [1, 1],
        "a": [1, 0],
        "b": [float("nan"), 0],
        "c": None,
        "d": [1, None],
        "e": [0, 0],
    }
    ids, vectors = [*rows, "a", "b", "b"], [*rows.values(), [0, 1], [0, 1], [1, 0]]
    embeddings, counts = written(tmp_path, parquet(tmp_path / "table.parquet", ids, vectors))
    assert counts == {
        "vectors": 10,
        "vectors_of_unknown_items": 2,
        "vectors_not_finite": 3,
        "vectors_zero": 1,
        "vectors_repeated": 2,
    }
    np.testing.assert_array_equal(embeddings[1:3], [[1, 0], [0, 1]])
    assert not embeddings[3:].any()


def test_ids_may_be_integers(tmp_path):
    numbered = Vocabulary(pa.array(["7", "12"]), np.ones(2, np.int64))
    path = parquet(tmp_path / "table.parquet", [12, 7], [[1, 0], [0, 1]])
    write_embeddings([path], numbered, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), [[0, 0], [0, 1], [1, 0]])


def test_a_matrix_takes_its_ids_from_the_text_beside_it(tmp_path):
    np.save(tmp_path / "table.npy", np.array([[2, 0], [0, 5]], np.float64))
    (tmp_path / "table.txt").write_text("c\na\n", encoding="utf-8")
    embeddings, _ = written(tmp_path, tmp_path / "table.npy")
    np.testing.assert_array_equal(embeddings[[1, 3]], [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b"], [[1, 2], [1, 2, 3]], r"the vector of row .*, item '.*', has \d numbers, but others have 3"),
        (["x", "y"], [[1, 2], [1, 2]], r"no vector of any item: .*unknown_items': 2.*first item id is 'x'.*'a'"),
        ([], [], "no vector of any item"),
        (["a"], [None], "no vector of any item"),
        ([1.5], [[1.0]], "column `item_id` holds double"),
    ],
)
def test_a_table_of_no_use_is_refused(tmp_path, ids, vectors, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path, parquet(tmp_path / "table.parquet", ids, vectors))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": ["a"], "vector": [[1.0]]}, r"no column `item_id`. Did you mean `item`\? It has \['item', 'vector'\]"),
        ({"item_id": ["a"], "vector": ["1,2"]}, "must have one column with lists of numbers, but has none"),
        ({"item_id": ["a"], "v": [[1.0]], "w": [[1.0]]}, r"but has \['v', 'w'\]"),
    ],
)
def test_a_table_without_its_columns_is_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    with pytest.raises(InputError, match=message):
        written(tmp_path, tmp_path / "table.parquet")


@pytest.mark.parametrize(
    ("matrix", "ids", "message"),
    [
        (np.ones((2, 2)), "a\n", "has 2 rows, but .*table.txt has 1 lines"),
        (np.ones(2), "a\nb\n", "must hold a matrix of numbers"),
        (np.array([["x"]]), "a\n", "must hold a matrix of numbers"),
    ],
)
def test_a_matrix_that_is_none_is_refused(tmp_path, matrix, ids, message):
    np.save(tmp_path / "table.npy", matrix)
    (tmp_path / "table.txt").write_text(ids, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        written(tmp_path, tmp_path / "table.npy")


@pytest.mark.parametrize("name", ["table.parquet", "table.npy"])
def test_a_file_that_is_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a table at all")
    (tmp_path / "table.txt").write_text("a\n")
    with pytest.raises(InputError, match="cannot be read as a table of embeddings"):
        written(tmp_path, tmp_path / name)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "`prepare.titles.table` names none"),
        ("x.csv", "neither a .parquet nor a .npy"),
        ("x.npy", "no file x.npy"),
    ],
)
def test_a_table_that_is_not_there_is_refused(path, message):
    with pytest.raises(ConfigError, match=message):
        table_files(path)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1))
def test_no_vector_is_too_long_or_too_short_to_have_length_one(rows):
    vectors = np.array(rows)
    vectors = vectors[vectors.any(axis=1)]
    np.testing.assert_allclose(np.linalg.norm(unit(vectors).astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_table_gives_neighbours_as_titles_do(tmp_path):
    table = tmp_path / "table.parquet"
    angles = np.arange(12) * 0.1
    parquet(table, [f"i{i}" for i in range(12)], np.stack((np.cos(angles), np.sin(angles)), axis=1).tolist())
    settings = {"source": "table", "table": str(table), "neighbours": 2, "encoder": "nowhere"}
    config = small_config(tmp_path, prepare={"titles": settings})
    write_titles(config, {f"i{i}": None for i in range(15)})
    artifact = title_neighbours.run(config)
    found = read_parts(artifact)
    ids = found["item_id"].to_pylist()
    near = {item: {ids[r] for r in rows} for item, rows in zip(ids, found["neighbours"].to_pylist(), strict=True)}
    assert near["i5"] == {"i4", "i6"}
    assert near["i0"] == {"i1", "i2"}
    assert near["i13"] == {""}
    assert artifact.counts["items_with_vector"] == artifact.counts["vectors"] == 12
    assert title_neighbours.run(config).manifest["run"] == artifact.manifest["run"]
    vectors = ItemEmbeddings.read(config.prepared_dir(item_embeddings.KIND)).vectors
    assert vectors.shape == (len(ids), 2)
    parquet(table, ["i3"], [[1.0, 0.0]])
    assert title_neighbours.run(config).counts["items_with_vector"] == 1
