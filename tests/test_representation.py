"""Alignment and uniformity against loops over the pairs, and where their values are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.representation import alignment, uniformity


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 5))
def test_both_are_the_means_over_pairs_that_the_paper_writes(seed, count, size):
    first, second = np.random.default_rng(seed).normal(size=(2, count, size)).astype(np.float32)
    near = [np.sum((unit(x) - unit(y)) ** 2) for x, y in zip(first, second, strict=True)]
    assert alignment(first, second) == pytest.approx(np.mean(near), abs=1e-5)
    far = [math.exp(-2 * np.sum((unit(x) - unit(y)) ** 2)) for i, x in enumerate(first) for y in np.delete(first, i, 0)]
    assert uniformity(first) == pytest.approx(math.log(np.mean(far)), abs=1e-5)


def test_one_point_is_aligned_and_not_uniform():
    vectors = np.full((4, 3), 2.0)
    assert alignment(vectors, vectors * 5) == pytest.approx(0)
    assert uniformity(vectors) == pytest.approx(0)


def test_opposite_points_are_as_far_as_can_be():
    assert alignment(np.eye(2), -np.eye(2)) == pytest.approx(4)
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
