"""The contrastive losses against loops over numpy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_tasks.contrastive import info_nce, info_nce_sampled, products_with_following
from ssl_tasks.task import following
from towers.keras import tf


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_info_nce_equals_a_loop(size, dim, seed):
    anchors, candidates = np.random.default_rng(seed).normal(size=(2, size, dim))
    losses = []
    for i in range(size):
        odds = [np.exp(anchors[i] @ candidates[j] / 0.9) for j in range(size)]
        losses.append(-np.log(odds[i] / sum(odds)))
    assert float(info_nce(tf.constant(anchors), tf.constant(candidates), 0.9)) == pytest.approx(np.mean(losses))


def test_info_nce_of_identical_views_is_the_spread_out_regulariser():
    """Yao et al. 2021, the formula after eq. 3."""
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positive, total = np.exp(1 / 0.1), 0.0
    for i in range(5):
        others = sum(np.exp(vectors[i] @ vectors[j] / 0.1) for j in range(5) if j != i)
        total -= np.log(positive / (positive + others)) / 5
    assert float(info_nce(tf.constant(vectors), tf.constant(vectors), 0.1)) == pytest.approx(total)


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_info_nce_sampled_equals_a_loop(size, count, seed):
    rng = np.random.default_rng(seed)
    anchors, positives = rng.normal(size=(2, size, 3))
    negatives = rng.normal(size=(size, count, 3))
    allowed, valid = rng.random((size, count)) < 0.6, rng.random(size) < 0.7
    losses = []
    for i in np.flatnonzero(valid):
        positive = np.exp(anchors[i] @ positives[i] / 0.8)
        others = sum(np.exp(anchors[i] @ negatives[i, j] / 0.8) for j in range(count) if allowed[i, j])
        losses.append(-np.log(positive / (positive + others)))
    products = np.einsum("nd,nmd->nm", anchors, negatives)
    loss = info_nce_sampled(*map(tf.constant, (anchors, positives, products)), 0.8, allowed, tf.constant(valid))
    assert float(loss) == pytest.approx(np.mean(losses) if losses else 0.0)


def test_a_disallowed_negative_gets_no_gradient():
    products = tf.Variable(np.ones((1, 2), np.float32))
    anchors = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        loss = info_nce_sampled(anchors, anchors, products, 1.0, tf.constant([[True, False]]))
    allowed, other = tape.gradient(loss, products).numpy()[0]
    assert other == 0.0
    assert allowed != 0.0


@pytest.mark.parametrize("size", [1, 2, 5, 64, 65, 200])
@pytest.mark.parametrize("most", [1, 3, 70])
def test_products_with_following_and_their_gradient_equal_those_of_copies(size, most):
    rng, count = np.random.default_rng(size), min(most, size - 1)
    weights = rng.normal(size=(size, count))
    anchors, candidates = (tf.Variable(rng.normal(size=(size, 3))) for _ in range(2))
    found = []
    for products in (
        lambda: tf.einsum("nd,nmd->nm", anchors, tf.gather(candidates, following(size, most))),
        lambda: products_with_following(anchors, candidates, count),
    ):
        with tf.GradientTape() as tape:
            values = products()
            total = tf.reduce_sum(values * weights)
        found.append([values, *map(tf.convert_to_tensor, tape.gradient(total, [anchors, candidates]))])
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_products_of_a_part_of_the_anchors():
    rng = np.random.default_rng(0)
    anchors, candidates = (tf.constant(rng.normal(size=(9, 3))) for _ in range(2))
    whole = products_with_following(anchors, candidates, 4).numpy()
    np.testing.assert_allclose(products_with_following(anchors[5:], candidates, 4, first=5), whole[5:])
