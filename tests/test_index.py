"""Top-K by index and by exact scan, against numpy brute force."""

import functools

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.index import ItemIndex, drop

N, D = 600, 16
KINDS = ["Flat", "IVF16,Flat", "HNSW16", "IVF16,SQ8"]


def clustered(seed: int, unit: bool = True) -> np.ndarray:
    """float32 [N, D] around 12 centres, of unit length or of very different lengths."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((12, D))[rng.integers(0, 12, N)] + 0.4 * rng.standard_normal((N, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors if unit else vectors * rng.uniform(0.2, 5.0, (N, 1))).astype(np.float32)


@functools.cache
def make_index(kind: str, unit: bool = True) -> ItemIndex:
    vectors = clustered(0, unit)
    index = faiss.index_factory(D, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return ItemIndex(index, vectors)


def brute_force(scores: np.ndarray, k: int, excluded: set[int]) -> list[float]:
    """The k largest scores among rows that are not excluded."""
    return sorted((float(s) for row, s in enumerate(scores) if row not in excluded), reverse=True)[:k]


query_seeds = st.integers(0, 2**32 - 1)
exclusions = st.one_of(st.just(0), st.integers(1, 20), st.integers(1, N), st.sampled_from([N - 3, N - 1, N]))


def draw_query(seed: int, excluded_count: int, nearest_first: bool) -> tuple[np.ndarray, np.ndarray]:
    """A query near the items, and rows to exclude: the best for the query, or random ones."""
    rng = np.random.default_rng(seed)
    vectors = clustered(0)
    query = (vectors[rng.integers(N)] + 0.2 * rng.standard_normal(D)).astype(np.float32)
    order = np.argsort(-(vectors @ query)) if nearest_first else rng.permutation(N)
    return query, order[:excluded_count]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=query_seeds, k=st.integers(1, N + 10), excluded_count=exclusions, nearest_first=st.booleans())
@settings(max_examples=60, deadline=None)
def test_search_never_comes_back_short(kind: str, seed: int, k: int, excluded_count: int, nearest_first: bool) -> None:
    query, excluded = draw_query(seed, excluded_count, nearest_first)
    rows, scores = make_index(kind).search(query, k, excluded)
    assert len(rows) == len(scores) == min(k, N - excluded_count)
    assert len(set(rows.tolist())) == len(rows)
    assert not set(rows.tolist()) & set(excluded.tolist())


@pytest.mark.parametrize("kind", KINDS)
@given(seed=query_seeds, k=st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_scores_are_inner_products_best_first(kind: str, seed: int, k: int) -> None:
    query, excluded = draw_query(seed, 5, nearest_first=True)
    rows, scores = make_index(kind).search(query, k, excluded)
    np.testing.assert_allclose(scores, clustered(0)[rows].astype(np.float64) @ query, atol=1e-5)
    assert (np.diff(scores) <= 0).all()


@given(seed=query_seeds, k=st.integers(1, N + 10), excluded_count=exclusions, nearest_first=st.booleans())
@settings(max_examples=60, deadline=None)
def test_flat_search_is_exact(seed: int, k: int, excluded_count: int, nearest_first: bool) -> None:
    query, excluded = draw_query(seed, excluded_count, nearest_first)
    _, scores = make_index("Flat").search(query, k, excluded)
    expected = brute_force(clustered(0).astype(np.float64) @ query, k, set(excluded.tolist()))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@given(seed=query_seeds, k=st.integers(1, N + 10), excluded_count=exclusions)
@settings(max_examples=60, deadline=None)
def test_scan_is_exact(seed: int, k: int, excluded_count: int) -> None:
    query, excluded = draw_query(seed, excluded_count, nearest_first=False)
    rows, scores = make_index("IVF16,Flat").scan(query, k, excluded)
    expected = brute_force(clustered(0).astype(np.float64) @ query, k, set(excluded.tolist()))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert not set(rows.tolist()) & set(excluded.tolist())


def test_approximate_search_falls_back_to_the_exact_answer_when_its_cells_run_dry() -> None:
    # nprobe 1 reaches one cell of about 40 items; excluding its best ones leaves fewer than k of it.
    vectors = clustered(0)
    query = vectors[0]
    excluded = np.argsort(-(vectors @ query))[:45]
    _, scores = make_index("IVF16,Flat").search(query, 60, excluded)
    expected = brute_force(vectors.astype(np.float64) @ query, 60, set(excluded.tolist()))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_scan_returns_equal_scores_in_row_order() -> None:
    vectors = np.ones((8, 2), np.float32)
    index = faiss.IndexFlatIP(2)
    index.add(vectors)
    rows, _ = ItemIndex(index, vectors).scan(np.ones(2, np.float32), 5, np.array([1]))
    assert rows.tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("unit", [True, False], ids=["unit vectors", "any length"])
@pytest.mark.parametrize("kind", ["Flat", "IVF16,Flat"])
def test_similar_ranks_by_cosine_without_the_item_itself(kind: str, unit: bool) -> None:
    vectors = clustered(0, unit).astype(np.float64)
    rows, scores = make_index(kind, unit).similar(17, 300, np.array([3, 4]))
    cosines = vectors @ vectors[17] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[17])
    np.testing.assert_allclose(scores, brute_force(cosines, 300, {3, 4, 17}), atol=1e-5)
    assert not {3, 4, 17} & set(rows.tolist())


def test_similar_to_an_item_that_is_excluded_as_well() -> None:
    rows, _ = make_index("Flat").similar(5, N, np.array([5, 6]))
    assert sorted(rows.tolist()) == [row for row in range(N) if row not in (5, 6)]


def test_an_index_of_other_vectors_is_refused() -> None:
    index = faiss.IndexFlatIP(2)
    with pytest.raises(ValueError, match="holds 0 x 2, but the vectors are"):
        ItemIndex(index, np.ones((3, 2), np.float32))


@given(rows=st.lists(st.integers(-1, 30), max_size=30), excluded=st.sets(st.integers(0, 30), max_size=30))
def test_drop_keeps_order_and_removes_exactly_the_excluded(rows: list[int], excluded: set[int]) -> None:
    kept = drop(np.array(rows, dtype=np.int64), np.array(sorted(excluded, key=hash, reverse=True), dtype=np.int64))
    assert kept.tolist() == [row for row in rows if row >= 0 and row not in excluded]
