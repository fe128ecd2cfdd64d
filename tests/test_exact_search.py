"""beam_jobs/exact_search.py against every pair's score, where many are equal or nearly so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import exact_search
from beam_jobs.exact_search import NOBODY, Base, inner_products, merge, rounding, without


def hard_vectors(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Unit vectors of which many are equal, and many a last bit apart."""
    some = random.integers(-1, 2, (max(1, count // 3), dim)) + np.eye(dim)[0] * 3
    chosen = some[random.integers(0, len(some), count)]
    chosen = chosen + random.choice([0, 0, 1e-7, 3e-4], (count, 1)) * random.normal(size=(count, dim))
    return (chosen / np.linalg.norm(chosen, axis=1, keepdims=True)).astype(np.float32)


def group_of(vectors: np.ndarray) -> np.ndarray:
    return np.unique(vectors, axis=0, return_inverse=True)[1]


def brute_force(queries: np.ndarray, vectors: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every score by the kernel's own sum, sorted in Python."""
    found, scores = np.full((len(queries), k), NOBODY), np.full((len(queries), k), -np.inf, np.float32)
    for row, query in enumerate(queries):
        every = inner_products(np.repeat(query[None], len(vectors), axis=0), vectors)
        best = sorted(zip(-every, items, strict=True))[:k]
        found[row, : len(best)] = [item for _, item in best]
        scores[row, : len(best)] = [-score for score, _ in best]
    return found, scores


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6), st.integers(1, 12))
def test_the_best_items_are_those_of_brute_force_bit_by_bit(seed, count, dim, k):
    random = np.random.default_rng(seed)
    vectors, items = hard_vectors(random, count, dim), random.permutation(3 * count)[:count]
    queries = np.concatenate((vectors[:5], hard_vectors(random, 5, dim)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "SPARE", 1)  # so that most searches must be widened
        patch.setattr(exact_search, "CANDIDATES_AT_ONCE", 40)
        patch.setattr(exact_search, "PAIRS_AT_ONCE", 7)
        found, scores = Base.build(vectors, group_of(vectors), items).best(queries, k)
    expected, expected_scores = brute_force(queries, vectors, items, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    assert (found.dtype, scores.dtype) == (np.int32, np.float32)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 8))
def test_above_its_floor_a_list_is_complete(seed, count, k):
    random = np.random.default_rng(seed)
    vectors = hard_vectors(random, count, 3)
    base = Base.build(vectors, group_of(vectors), np.arange(count))
    whole = base.best(vectors, k)
    floors = whole[1][np.arange(count), random.integers(0, k, count)]
    items, scores = base.best(vectors, k, floors)
    above = whole[1] >= floors[:, None]
    np.testing.assert_array_equal(items[above], whole[0][above])
    np.testing.assert_array_equal(scores[above], whole[1][above])


def test_thousands_of_equal_vectors_cost_no_more_than_one():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 5000, axis=0)
    base = Base.build(vectors, np.repeat([0, 1], 5000), np.arange(10_000)[::-1])
    assert len(base.vectors) == 2
    items, scores = base.best(vectors[:1], 3)
    assert (items.tolist(), scores.tolist()) == ([[5000, 5001, 5002]], [[1, 1, 1]])


def test_nothing_to_find_is_an_empty_list():
    base = Base.build(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    items, scores = base.best(np.eye(2, dtype=np.float32), 3)
    assert (items == NOBODY).all()
    assert np.isneginf(scores).all()


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 70))
def test_a_score_depends_on_its_two_vectors_alone(seed, count, dim):
    random = np.random.default_rng(seed)
    a, b = hard_vectors(random, count, dim), hard_vectors(random, count, dim)
    together = inner_products(a, b)
    alone = [inner_products(a[i : i + 1], b[i : i + 1])[0] for i in range(count)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, inner_products(b, a))
    np.testing.assert_allclose(together, (a.astype(np.float64) * b).sum(axis=1), atol=1e-7)


@pytest.mark.parametrize("dim", [3, 384, 1500])
def test_the_rounding_covers_what_faiss_computes(dim):
    import faiss

    random = np.random.default_rng(dim)
    # All components alike: the worst case, as no error cancels another.
    vectors = np.full((300, dim), dim**-0.5) * random.uniform(0.9, 1.1, (300, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rough, found = faiss.knn(vectors, vectors, 300, faiss.METRIC_INNER_PRODUCT)
    exact = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert np.abs(rough - np.take_along_axis(exact, found, axis=1)).max() < rounding(dim)


def test_without_leaves_the_row_itself_out_and_merge_keeps_the_order():
    items = np.array([[4, 7, 9], [4, 7, 9]], np.int32)
    scores = np.array([[0.9, 0.75, 0.75], [0.9, 0.75, 0.75]], np.float32)
    others, rest = without((items, scores), np.array([7, 5]))
    assert others.tolist() == [[4, 9], [4, 7]]
    merged = merge((others, rest), (np.array([[8, 3], [5, -1]], np.int32), np.array([[0.75, 0.1], [0.85, -np.inf]])))
    assert merged[0].tolist() == [[4, 8], [4, 5]]
