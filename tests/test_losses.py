"""The retrieval losses against loops over numpy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.keras import tf
from towers.losses import batch_softmax, sampled_softmax


def softmax_loss(logits: list[float]) -> float:
    """Cross-entropy of the first of some logits, in float64."""
    logits64 = np.asarray(logits, dtype=np.float64)
    return float(np.log(np.sum(np.exp(logits64 - logits64.max()))) + logits64.max() - logits64[0])


def batch_oracle(users, items, ids, log_q, temperature, weights) -> float:
    losses = []
    for i in range(len(users)):
        logits = [users[i] @ items[i] / temperature - log_q[i]]
        logits += [users[i] @ items[j] / temperature - log_q[j] for j in range(len(items)) if ids[j] != ids[i]]
        losses.append(softmax_loss(logits))
    return float(np.sum(np.asarray(losses) * weights) / np.sum(weights))


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_batch_softmax_equals_a_loop_over_distinct_items(size, dim, seed):
    rng = np.random.default_rng(seed)
    ids, weights = rng.integers(0, 4, size), rng.random(size).astype(np.float32) + 0.1
    users = rng.normal(size=(size, dim)).astype(np.float32)
    items, log_q = rng.normal(size=(4, dim)).astype(np.float32)[ids], rng.normal(size=4).astype(np.float32)[ids]
    loss = batch_softmax(users, items, tf.constant(ids), tf.constant(log_q), 0.5, tf.constant(weights))
    assert float(loss) == pytest.approx(batch_oracle(users, items, ids, log_q, 0.5, weights), rel=1e-4, abs=1e-5)


def test_an_accidental_hit_has_probability_zero():
    users = tf.Variable([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    items = tf.Variable([[0.5, 0.1], [0.5, 0.1], [0.2, 0.9]])
    with tf.GradientTape() as tape:
        loss = batch_softmax(users[:1], items[:1], tf.constant([4]))
    # Alone with copies of its own item, a user has nothing to tell it from.
    assert float(loss) == 0.0
    with tf.GradientTape() as tape:
        loss = batch_softmax(users, items, tf.constant([4, 4, 7]), weights=tf.constant([1.0, 0.0, 0.0]))
    gradient = tf.convert_to_tensor(tape.gradient(loss, items)).numpy()
    assert np.all(gradient[1] == 0.0)
    assert np.any(gradient[2] != 0.0)


def test_log_q_makes_negatives_drawn_from_q_stand_for_all_items():
    """With the negatives corrected by -log q, the gradient must estimate that of the softmax over all items.

    The positive is given the correction it needs for that, as its copies are masked: its one place stands for 4000.
    Training gives it -log q like every other item (Yi et al. 2019), whose bias in this term is not tested here.
    """
    rng = np.random.default_rng(5)
    items = rng.normal(size=(6, 3)).astype(np.float32)
    q = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    user = tf.Variable(rng.normal(size=(1, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        full = tf.reduce_logsumexp(tf.matmul(user, items, transpose_b=True)) - tf.reduce_sum(user * items[0])
    expected = tape.gradient(full, user).numpy()[0]

    def sampled_gradient(log_q: np.ndarray) -> np.ndarray:
        drawn = np.concatenate(([0], rng.choice(6, 4000, p=q)))
        with tf.GradientTape() as tape:
            users = tf.repeat(user, len(drawn), axis=0)
            weights = tf.one_hot(0, len(drawn))
            loss = batch_softmax(users, items[drawn], tf.constant(drawn), tf.constant(log_q[drawn]), 1.0, weights)
        return tape.gradient(loss, user).numpy()[0]

    log_q = np.log(q).astype(np.float32)
    log_q[0] = -np.log(4000.0)
    assert sampled_gradient(log_q) == pytest.approx(expected, abs=0.05)
    assert sampled_gradient(np.zeros(6, np.float32)) != pytest.approx(expected, abs=0.05)


def test_sampled_softmax_equals_a_loop_and_skips_clicked_negatives():
    rng = np.random.default_rng(1)
    users, positives = rng.normal(size=(2, 4, 3)).astype(np.float32)
    negatives = rng.normal(size=(5, 3)).astype(np.float32)
    excluded = {(0, 1), (2, 4), (2, 0)}
    losses = []
    for i in range(4):
        logits = [users[i] @ positives[i] / 0.7]
        logits += [users[i] @ negatives[j] / 0.7 for j in range(5) if (i, j) not in excluded]
        losses.append(softmax_loss(logits))
    loss = sampled_softmax(users, positives, negatives, tf.constant(sorted(excluded), tf.int64), 0.7)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_clicked_negative_gets_no_gradient():
    negatives = tf.Variable(np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32))
    users = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        loss = sampled_softmax(users, users, negatives, tf.constant([[0, 1]], tf.int64))
    gradient = tape.gradient(loss, negatives).numpy()
    assert np.all(gradient[1] == 0.0)
    assert np.all(gradient[[0, 2]] != 0.0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_losses_and_gradients_stay_finite(scale):
    users = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * scale)
    with tf.GradientTape() as tape:
        loss = batch_softmax(users, users, tf.constant([1, 2, 3, 3]), temperature=0.01)
    assert np.isfinite(float(loss))
    assert np.all(np.isfinite(tf.convert_to_tensor(tape.gradient(loss, users)).numpy()))
