"""Half precision finds exactly what the vectors would, or says that it cannot tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import export_index
from serving import halves
from serving.halves import Halves, certain
from serving.scan import best, highest

N, D = 2000, 16


def spread(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((N, D), dtype=np.float32)


def crowded(seed: int) -> np.ndarray:
    """Vectors that half precision takes for one another."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(D).astype(np.float32) + 1e-4 * rng.standard_normal((N, D), dtype=np.float32)


def repeated(seed: int) -> np.ndarray:
    return np.repeat(spread(seed)[: N // 200], 200, axis=0)


def of_any_length(seed: int) -> np.ndarray:
    return spread(seed) * np.random.default_rng(seed).lognormal(0, 2, (N, 1)).astype(np.float32)


CATALOGUES = {draw.__name__: draw for draw in (spread, crowded, repeated, of_any_length)}


def ask(vectors: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
    half = Halves(*export_index.halved(vectors))
    return certain(vectors, query, *half.candidates(query, k), k)


@pytest.mark.parametrize("catalogue", CATALOGUES)
@given(st.integers(0, 99), st.sampled_from([1, 10, 300, 1500, N]), st.floats(1e-3, 1e3))
def test_what_is_certain_is_what_a_scan_finds(catalogue: str, seed: int, k: int, length: float) -> None:
    vectors = CATALOGUES[catalogue](seed)
    query = np.float32(length) * np.random.default_rng(seed + 1).standard_normal((1, D), dtype=np.float32)
    found = ask(vectors, query, k)
    if found is not None:
        exact = query[0].astype(np.float64) @ vectors.T.astype(np.float64)
        kth = np.sort(exact)[N - k]
        tolerance = 1e-6 * D * float(np.linalg.norm(query) * np.linalg.norm(vectors, axis=1).max())
        assert (exact[found[0]] >= kth - tolerance).all()
        assert len(set(found[0].tolist())) == k


@pytest.mark.parametrize("seed", range(5))
def test_a_spread_catalogue_is_certain_and_in_the_order_of_a_scan(seed: int) -> None:
    vectors, query = spread(seed), spread(seed + 100)[:1]
    rows, scores = ask(vectors, query, 100)
    exact = highest(vectors, query)
    assert rows.tolist() == best(exact, 100).tolist()
    np.testing.assert_allclose(scores, exact[rows], rtol=1e-5)


@pytest.mark.parametrize("catalogue", ["crowded", "repeated"])
def test_a_catalogue_of_near_equals_is_uncertain(catalogue: str) -> None:
    assert ask(CATALOGUES[catalogue](0), spread(1)[:1], 10) is None


def test_a_margin_of_none_can_be_wrong_and_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "MARGIN", 0)
    vectors = crowded(0)
    query = spread(1)[:1]
    half = Halves(*export_index.halved(vectors))
    rows, beyond = half.candidates(query, 10)
    assert set(rows.tolist()) != set(best(highest(vectors, query), 10).tolist())
    assert certain(vectors, query, rows, beyond, 10) is None


def test_a_query_that_is_no_number_is_uncertain() -> None:
    assert ask(spread(0), np.full((1, D), np.nan, np.float32), 10) is None
