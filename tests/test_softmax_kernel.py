"""The log sum over shared negatives and its gradient against the plain formula in float64."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers import softmax_kernel
from towers.keras import tf
from towers.softmax_kernel import weighted_log_sum


def inputs(size: int, negatives: int, seed: int) -> dict[str, Any]:
    """Arguments of weighted_log_sum in float64, a third of the pairs excluded, in two groups."""
    random = np.random.default_rng(seed)
    return {
        "users": random.normal(0, 2, (size, 3)),
        "negatives": random.normal(0, 2, (negatives, 3)),
        "others": random.normal(0, 2, size),
        "weights": random.random(size),
        "bias": random.normal(0, 2, negatives),
        "excluded": [np.argwhere(random.random((size, negatives)) < share) for share in (0.2, 0.15)],
    }


def plain(users: tf.Tensor, negatives: tf.Tensor, others: tf.Tensor, rest: dict[str, Any]) -> tf.Tensor:
    """The formula with the whole matrix."""
    logits = tf.matmul(users, negatives, transpose_b=True) + rest["bias"]
    excluded = np.zeros(logits.shape, bool)
    for group in rest["excluded"]:
        excluded[tuple(group.T)] = True
    logits = tf.concat((others[:, tf.newaxis], tf.where(excluded, -np.inf, logits)), axis=1)
    return tf.reduce_sum(rest["weights"] * tf.reduce_logsumexp(logits, axis=1))


def value_and_gradients(function, of: dict[str, Any], dtype: tf.DType) -> list[np.ndarray]:
    """`function` of users, negatives and others, and its derivatives in them."""
    tensors = [tf.constant(of[name], dtype) for name in ("users", "negatives", "others")]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = 2 * function(*tensors)  # the factor reaches the gradient
    return [np.asarray(each, np.float64) for each in (value, *tape.gradient(value, tensors))]


@given(st.integers(1, 11), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_it_is_the_plain_formula_however_it_is_cut_into_blocks(size, negatives, seed):
    of = inputs(size, negatives, seed)
    rest = {name: of[name] for name in ("weights", "bias", "excluded")}
    expected = value_and_gradients(lambda u, v, o: plain(u, v, o, rest), of, tf.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax_kernel, "BLOCK", 4)
        found = value_and_gradients(lambda u, v, o: weighted_log_sum(u, v, o, **rest), of, tf.float64)
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 1e-5), (tf.bfloat16, 0.03), (tf.float16, 0.003)])
def test_lower_precision_is_near_it(dtype, tolerance):
    of = inputs(600, 40, 3)
    rest = {name: of[name] for name in ("weights", "bias", "excluded")}
    expected = value_and_gradients(lambda u, v, o: plain(u, v, o, rest), of, tf.float64)
    found = value_and_gradients(lambda u, v, o: weighted_log_sum(u, v, o, **rest), of, dtype)
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_logits_near_and_far_apart_have_one_sum():
    """A yardstick among the negatives gives the log sum where it can, the largest logit elsewhere."""
    of = inputs(40, 30, 5)
    near = {"users": of["users"] / 4, "negatives": of["negatives"] / 4, "others": of["others"]}
    for arguments, known in ((near, True), (of, False)):
        tensors = [tf.constant(arguments[name], tf.float64) for name in ("users", "negatives")]
        assert (float(softmax_kernel._level(*tensors, tf.constant(of["bias"]))) > softmax_kernel.ABSENT) == known
        rest = {name: of[name] for name in ("weights", "bias", "excluded")}
        expected = value_and_gradients(lambda u, v, o, rest=rest: plain(u, v, o, rest), arguments, tf.float64)
        found = value_and_gradients(lambda u, v, o, rest=rest: weighted_log_sum(u, v, o, **rest), arguments, tf.float32)
        for a, b in zip(found, expected, strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("absent", [[1], [0, 1, 2]])
def test_a_place_without_an_item_has_no_part_in_it(absent):
    bias = np.zeros(3, np.float32)
    bias[absent] = -1e30
    users, negatives = tf.Variable([[1.0, 2.0]]), tf.Variable([[0.3, 1.0], [2.0, 0.5], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        value = weighted_log_sum(users, negatives, tf.constant([-5.0]), tf.constant([1.0]), tf.constant(bias))
    logits = np.array([-5.0, *(np.array([2.3, 3.0, 2.0])[bias == 0])])
    assert float(value) == pytest.approx(np.log(np.exp(logits).sum()), rel=1e-6)
    assert not np.any(tf.convert_to_tensor(tape.gradient(value, negatives)).numpy()[absent])


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_a_user_whose_negatives_are_all_excluded_keeps_its_own(size):
    every = np.array([[0, 0], [0, 0], [0, 1]])
    users, negatives = tf.Variable([[1.0, 2.0]]), tf.Variable([[30.0 * size, size], [2.0 * size, 50.0 * size]])
    with tf.GradientTape() as tape:
        value = weighted_log_sum(users, negatives, tf.constant([-5.0]), tf.constant([1.0]), excluded=[every])
    assert float(value) == -5.0
    assert not any(np.any(tf.convert_to_tensor(g)) for g in tape.gradient(value, [users, negatives]))


def test_large_logits_stay_finite():
    users, negatives = tf.Variable([[1e4, 0.0]]), tf.Variable([[1.0, 0.0], [-1.0, 0.0]])
    with tf.GradientTape() as tape:
        value = weighted_log_sum(users, negatives, tf.constant([1e4]), tf.constant([1.0]))
    assert float(value) == pytest.approx(1e4 + np.log(2), rel=1e-6)
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(value, [users, negatives]))
