"""Every kind of index against numpy brute force: complete under any filter and exclusion, exact where it must be."""

import functools
import itertools
from collections.abc import Iterator

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import export_index
from serving.allowed import Allowed
from serving.halves import Halves
from serving.index import Found, ItemIndex
from serving.shard import Shard

N, D = 600, 16
EXACT = {"Flat": 0.0, "Flat and halves": 0.0, "IVF16,Flat": 0.0, "HNSW16": 0.0, "IVF16,PQ8x4,RFlat": 2.0}
"""Kinds of index with the `refine` that export would give them; 0 says that their scores are exact."""
CODED = {"IVF16,PQ16x4fsr": 2.0, "IVF16,SQ8": 2.0, "SQ8": 1.5, "IVF16,PQ8x4": 3.0, "PQ8x4": 4.0}
KINDS = {**EXACT, **CODED, "PCA8,IVF16,Flat": 3.0, "NSG16": 0.0}
SHARDED = {"Flat": 3, "Flat and halves": 3, "IVF16,Flat": 3, "IVF16,SQ8": 2, "IVF16,PQ16x4fsr": 2, "HNSW16": 2}
LAYOUTS = [*((kind, 1) for kind in KINDS), *SHARDED.items()]
"""(kind, number of shards)."""


@pytest.fixture(autouse=True, scope="module", params=[False, True], ids=["as shipped", "small limits"])
def limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """With the limits as shipped, a catalogue this small is often scored whole where a filter is given."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr("serving.index.SCAN_NS", 1000.0)
            patch.setattr("serving.index.MANY_EXCLUDED", 30)
            patch.setattr("serving.index.SCAN_SHARE", 1.0)
            patch.setattr("serving.scan.STREAMED", 0)
            patch.setattr("serving.scan.SAMPLED", 64)
        yield


def clustered(seed: int, unit: bool = True) -> np.ndarray:
    """float32 [N, D] around 12 centres, of unit length or of very different lengths."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((12, D))[rng.integers(0, 12, N)] + 0.4 * rng.standard_normal((N, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors if unit else vectors * rng.uniform(0.2, 5.0, (N, 1))).astype(np.float32)


@functools.cache
def make_index(kind: str, shards: int = 1, unit: bool = True) -> ItemIndex:
    vectors = clustered(0, unit)
    bounds = [8 * (N * i // shards // 8) for i in range(shards)] + [N]
    made = []
    for start, stop in itertools.pairwise(bounds):
        index = faiss.index_factory(D, kind.removesuffix(" and halves"), faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors[start:stop])
        made.append(Shard(index, start))
    halves = Halves(*export_index.halved(vectors)) if kind.endswith("halves") else None
    return ItemIndex(made, vectors, np.linalg.norm(vectors, axis=1), 200, KINDS[kind], halves)


def brute_force(scores: np.ndarray, k: int, possible: np.ndarray) -> list[float]:
    """The k largest scores among the possible rows, bool [N]."""
    return sorted(scores[possible].tolist(), reverse=True)[:k]


def near_items(seed: int, interests: int = 1) -> np.ndarray:
    """Queries [K, D] near items."""
    rng = np.random.default_rng(seed)
    vectors = clustered(0)[rng.integers(0, N, interests)] + 0.2 * rng.standard_normal((interests, D))
    return vectors.astype(np.float32)


def allow(seed: int, share: float, near_first: bool) -> np.ndarray:
    """bool [N]: random rows, or those nearest to a query, which leave whole cells of an index empty."""
    rng = np.random.default_rng(seed)
    order = np.argsort(clustered(0) @ near_items(seed)[0]) if near_first else rng.permutation(N)
    mask = np.zeros(N, bool)
    mask[order[: round(share * N)]] = True
    return mask


def pack(mask: np.ndarray) -> Allowed:
    return Allowed.of(np.packbits(mask, bitorder="little"), N)


@st.composite
def demands(draw: st.DrawFn) -> dict[str, object]:
    """Any filter and exclusion: none, few, nearly all, all; unrelated to the query, or what is nearest to it."""
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from([None, 0.0, 1 / N, 0.02, 0.2, 0.5, 0.9, 1.0]))
    rng = np.random.default_rng(seed)
    count = draw(st.sampled_from([0, 1, 20, 300, N - 1, N, 2 * N]))
    nearest = np.argsort(-(clustered(0) @ near_items(seed)[0]))
    excluded = np.resize(nearest if draw(st.booleans()) else rng.permutation(N), count)
    return {
        "queries": near_items(seed, draw(st.sampled_from([1, 3]))),
        "k": draw(st.sampled_from([1, 10, 100, N, N + 10])),
        "excluded": excluded,
        "mask": None if share is None else allow(seed, share, draw(st.booleans())),
    }


def ask(index: ItemIndex, demand: dict[str, object]) -> tuple[Found, np.ndarray]:
    """What the index finds, and which rows it might: bool [N]."""
    mask, excluded = demand["mask"], demand["excluded"]
    possible = np.ones(N, bool) if mask is None else mask.copy()
    possible[excluded] = False
    found = index.search(demand["queries"], demand["k"], excluded, None if mask is None else pack(mask))
    return found, possible


@pytest.mark.parametrize(("kind", "shards"), LAYOUTS)
@given(demand=demands())
@settings(max_examples=20)
def test_search_never_comes_back_short_nor_with_what_is_not_allowed(kind: str, shards: int, demand: dict) -> None:
    found, possible = ask(make_index(kind, shards), demand)
    assert len(found.rows) == len(found.scores) == min(demand["k"], possible.sum())
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert possible[found.rows].all()
    exact = (clustered(0).astype(np.float64) @ demand["queries"].T)[found.rows].max(axis=1)
    np.testing.assert_allclose(found.scores, exact, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("kind", ["Flat", "Flat and halves"])
@pytest.mark.parametrize("shards", [1, 3])
@given(demand=demands())
@settings(max_examples=30)
def test_flat_search_is_exact(kind: str, shards: int, demand: dict) -> None:
    found, possible = ask(make_index(kind, shards), demand)
    scores = (clustered(0).astype(np.float64) @ demand["queries"].T).max(axis=1)
    np.testing.assert_allclose(found.scores, brute_force(scores, demand["k"], possible), atol=1e-5)


@given(demand=demands())
@settings(max_examples=30)
def test_scan_is_exact(demand: dict) -> None:
    mask, excluded, index = demand["mask"], demand["excluded"], make_index("IVF16,Flat")
    _, possible = ask(index, demand)
    found = index.scan(demand["queries"], demand["k"], excluded, None if mask is None else pack(mask))
    scores = (clustered(0).astype(np.float64) @ demand["queries"].T).max(axis=1)
    np.testing.assert_allclose(found.scores, brute_force(scores, demand["k"], possible), atol=1e-5)


@pytest.mark.parametrize(("kind", "shards"), LAYOUTS)
@given(wishes=st.lists(demands(), min_size=1, max_size=6), interests=st.sampled_from([1, 3]))
@settings(max_examples=6)
def test_many_searches_at_once_are_each_as_alone(kind: str, shards: int, wishes: list[dict], interests: int) -> None:
    index = make_index(kind, shards)
    queries = np.stack([near_items(i, interests) for i in range(len(wishes))])
    together = index.search_many(queries, [w["k"] for w in wishes], [w["excluded"] for w in wishes])
    for i, (wish, found) in enumerate(zip(wishes, together, strict=True)):
        alone = index.search(queries[i], wish["k"], wish["excluded"])
        assert len(found.rows) == len(alone.rows)
        assert not set(found.rows.tolist()) & set(wish["excluded"].tolist())
        if kind.startswith("Flat"):
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


def test_short_of_a_cell_the_answer_is_exact() -> None:
    # nprobe 1 reaches one cell of about 40 items; excluding its best ones leaves fewer than k of it.
    vectors = clustered(0)
    excluded = np.argsort(-(vectors @ vectors[0]))[:45]
    possible = np.ones(N, bool)
    possible[excluded] = False
    found = make_index("IVF16,Flat").search(vectors[:1], 60, excluded)
    expected = brute_force(vectors.astype(np.float64) @ vectors[0], 60, possible)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)


def missed(kind: str, k: int, refine: float, tuned_for: int) -> int:
    """How many of the k best items of 20 queries an index does not find, whose lists are all searched."""
    vectors = clustered(0)
    index = faiss.index_factory(D, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    shard = Shard(index, depth={"nprobe": 16} if "IVF" in kind else {})
    made = ItemIndex([shard], vectors, np.linalg.norm(vectors, axis=1), tuned_for, refine)
    best = np.argsort(-(vectors @ vectors[:20].T), axis=0)[:k]
    return sum(len(np.setdiff1d(best[:, i], made.search(vectors[i : i + 1], k).rows)) for i in range(20))


@pytest.mark.parametrize("kind", ["IVF16,PQ8x4", "IVF16,PQ8x4fsr", "SQ4", "PQ8x4"])
def test_refinement_brings_back_what_compression_lost(kind: str) -> None:
    assert missed(kind, 20, refine=6.0, tuned_for=20) < missed(kind, 20, refine=1.0, tuned_for=20) / 2


@pytest.mark.parametrize("kind", ["IVF16,PQ8x4fsr", "PQ8x4"])
def test_a_few_are_chosen_from_as_many_as_the_index_was_tuned_for(kind: str) -> None:
    assert missed(kind, 5, refine=1.0, tuned_for=50) < missed(kind, 5, refine=1.0, tuned_for=5) / 2


def test_search_goes_deeper_for_more_than_it_was_tuned_for() -> None:
    vectors = clustered(0)
    index = faiss.index_factory(D, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    tuned = ItemIndex([Shard(index, depth={"nprobe": 2})], vectors, np.ones(N, np.float32), tuned_for=10)
    exact = ItemIndex([Shard(index, depth={"nprobe": 16})], vectors, np.ones(N, np.float32), tuned_for=10)
    missing = [len(np.setdiff1d(exact.search(q, 80).rows, tuned.search(q, 80).rows)) for q in vectors[:50, None]]
    assert not any(missing)


def test_equal_scores_are_in_row_order() -> None:
    vectors = np.ones((8, 2), np.float32)
    index = faiss.IndexFlatIP(2)
    index.add(vectors)
    found = ItemIndex([Shard(index)], vectors, np.ones(8, np.float32)).scan(
        np.ones((1, 2), np.float32), 5, np.array([1])
    )
    assert found.rows.tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("unit", [True, False], ids=["unit vectors", "any length"])
@pytest.mark.parametrize("share", [None, 0.05, 0.6])
@pytest.mark.parametrize("kind", ["Flat", "Flat and halves", "IVF16,Flat"])
def test_similar_ranks_by_cosine_without_the_item_itself(kind: str, unit: bool, share: float | None) -> None:
    vectors = clustered(0, unit).astype(np.float64)
    mask = None if share is None else allow(3, share, near_first=False)
    possible = np.ones(N, bool) if mask is None else mask.copy()
    possible[[3, 4, 17]] = False
    found = make_index(kind, unit=unit).similar(17, 300, np.array([3, 4]), None if mask is None else pack(mask))
    cosines = vectors @ vectors[17] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[17])
    np.testing.assert_allclose(found.scores, brute_force(cosines, 300, possible), atol=1e-5)
    assert possible[found.rows].all()


def test_similar_to_an_item_that_is_excluded_as_well() -> None:
    found = make_index("Flat").similar(5, N, np.array([5, 6]))
    assert sorted(found.rows.tolist()) == [row for row in range(N) if row not in (5, 6)]


def test_an_index_of_other_vectors_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 0 x 2, but the vectors are"):
        ItemIndex([Shard(faiss.IndexFlatIP(2))], np.ones((3, 2), np.float32), np.ones(3, np.float32))


def test_a_shard_that_would_need_shifted_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8, not at 12"):
        Shard(faiss.IndexFlatIP(2), start=12)
