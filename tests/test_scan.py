"""Exact scoring and selection against NumPy in float64 and a stable sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import scan

DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "few values": lambda rng, n: rng.integers(0, 5, n),
    "all equal": lambda rng, n: np.zeros(n),
    "ascending": lambda rng, n: np.arange(n),
    "in step with the sample": lambda rng, n: np.where(np.arange(n) % scan.STRIDE == 0, 1.0, 0.0) * np.arange(n),
    "mostly excluded": lambda rng, n: np.where(np.arange(n) % 7 == 3, rng.standard_normal(n), -np.inf),
}


@given(st.sampled_from(sorted(DRAWS)), st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 99))
def test_the_best_are_those_of_a_stable_sort(draw, size, wanted, seed):
    scores = DRAWS[draw](np.random.default_rng(seed), size).astype(np.float32)
    expected = np.argsort(-scores, kind="stable")[:wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "SAMPLED", 256)
        assert scan.best(scores, wanted).tolist() == expected.tolist()


def test_a_sample_leaves_few_to_look_at():
    scores = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    assert 500 <= len(scan._at_least_a_guess(scores, 500)) < 2000


@pytest.mark.parametrize("interests", [1, 3])
@pytest.mark.parametrize("streamed", [0, 1 << 40], ids=["from memory", "from a cache"])
@pytest.mark.parametrize("dimension", [1, 7, 64])
def test_the_highest_product_is_that_of_float64(interests, streamed, dimension, monkeypatch):
    monkeypatch.setattr(scan, "STREAMED", streamed)
    rng = np.random.default_rng(dimension)
    vectors = rng.standard_normal((501, dimension), dtype=np.float32)
    vectors.flags.writeable = False  # as those of a mapped file
    queries = rng.standard_normal((interests, dimension), dtype=np.float32)
    expected = (vectors.astype(np.float64) @ queries.T.astype(np.float64)).max(axis=1)
    assert scan.highest(vectors, queries) == pytest.approx(expected, abs=1e-4)
