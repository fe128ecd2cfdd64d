"""The contrastive losses against loops over numpy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_tasks.contrastive import info_nce, info_nce_sampled
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
    loss = info_nce_sampled(*map(tf.constant, (anchors, positives, negatives)), 0.8, allowed, tf.constant(valid))
    assert float(loss) == pytest.approx(np.mean(losses) if losses else 0.0)


def test_a_disallowed_negative_gets_no_gradient():
    negatives = tf.Variable(np.ones((1, 2, 2), np.float32))
    anchors = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        loss = info_nce_sampled(anchors, anchors, negatives, 1.0, tf.constant([[True, False]]))
    gradient = tape.gradient(loss, negatives).numpy()[0]
    assert np.all(gradient[1] == 0.0)
    assert np.all(gradient[0] != 0.0)
