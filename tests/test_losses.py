"""The retrieval loss against loops over numpy, closed forms, and the softmax over a whole small catalogue.

The catalogue is small enough to enumerate every outcome of the draws, so that expectations are exact: no tolerance
below stands for the noise of a simulation.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement, pairwise, permutations, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.keras import tf
from towers.losses import BUCKETS, MASKED, Shared, occurrences, own_logits, softmax_loss

Q = np.array([0.4, 0.3, 0.2, 0.1])
"""How often each item of a small catalogue is drawn; item 3 is the positive below."""
POSITIVE = 3


def pairs(*excluded: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    rows, columns = zip(*excluded, strict=True) if excluded else ((), ())
    return tf.constant(rows, tf.int32), tf.constant(columns, tf.int32)


def catalogue(seed: int = 5, dim: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A user [D] and the items of the catalogue [4, D], float32."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=dim).astype(np.float32), rng.normal(size=(len(Q), dim)).astype(np.float32) * 0.5


def full_softmax_gradient(user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Of -log softmax of the positive over the catalogue, with respect to the user; float64."""
    scores = items.astype(np.float64) @ user
    return (np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()) @ items - items[POSITIVE]


# ---- the parts, against loops


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_loss_equals_a_loop(size, columns, seed):
    rng = np.random.default_rng(seed)
    users, positives = rng.normal(size=(2, size, 4)).astype(np.float32)
    items, own = rng.normal(size=(columns, 4)).astype(np.float32), rng.normal(size=(size, 2, 4)).astype(np.float32)
    log_expected, log_weight = rng.normal(size=columns).astype(np.float32), np.float32([0.0, 0.7])
    excluded, present = rng.random((size, columns)) < 0.3, rng.random((size, 2)) < 0.7
    weights = rng.random(size).astype(np.float32) + 0.1
    losses = []
    for i in range(size):
        positive = users[i] @ positives[i] / 0.5
        terms = [positive]
        terms += [users[i] @ items[j] / 0.5 - log_expected[j] for j in range(columns) if not excluded[i, j]]
        terms += [users[i] @ own[i, m] / 0.5 + log_weight[m] for m in range(2) if present[i, m]]
        losses.append(np.log(np.sum(np.exp(np.float64(terms)))) - positive)
    shared = Shared(users / 0.5, items, log_expected, [pairs(*zip(*np.nonzero(excluded), strict=True))])
    logits = own_logits(users, own, log_weight, present, 0.5)
    loss = softmax_loss(tf.constant(np.sum(users * positives, axis=1) / 0.5), shared, logits, tf.constant(weights))
    assert float(loss) == pytest.approx(np.average(losses, weights=weights), rel=1e-4, abs=1e-5)


ITEMS = st.sampled_from([0, 1, 2, 3, BUCKETS, BUCKETS + 1, BUCKETS + 2, 2 * BUCKETS, 2 * BUCKETS + 1, 3 * BUCKETS + 1])
"""Some share a bucket."""


@given(st.lists(st.tuples(st.integers(0, 4), ITEMS), max_size=30), st.lists(ITEMS, min_size=1))
@settings(max_examples=50, deadline=None)
def test_occurrences_are_all_places_of_a_users_items(known, columns):
    rows, items = (tf.constant([pair[i] for pair in known], tf.int32) for i in (0, 1))
    found = occurrences(rows, items, tf.constant(columns, tf.int32))
    expected = {(row, j) for row, item in known for j, column in enumerate(columns) if item == column > 0}
    assert set(zip(*(part.numpy().tolist() for part in found), strict=True)) == expected


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_losses_and_gradients_stay_finite(scale):
    users = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * scale)
    with tf.GradientTape() as tape:
        every = pairs(*((i, j) for i in range(4) for j in range(4)))
        shared = Shared(users / 0.01, users, tf.zeros(4), [every])
        loss = softmax_loss(tf.reduce_sum(users * users, axis=1) / 0.01, shared)
    # With every negative masked there is nothing to tell the positive from.
    assert float(loss) == 0.0
    assert np.all(tf.convert_to_tensor(tape.gradient(loss, users)).numpy() == 0.0)


@pytest.mark.parametrize("score", [-3e4, 0.0, 3e4])
def test_a_masked_column_has_probability_zero_beside_any_other(score):
    items = tf.Variable([[score], [0.0]])
    with tf.GradientTape() as tape:
        loss = softmax_loss(tf.zeros((1,)), Shared(tf.ones((1, 1)), items, tf.constant([-MASKED, 0.0])))
    # The user is 1: an item's gradient is its probability.
    assert tf.convert_to_tensor(tape.gradient(loss, items)).numpy().tolist() == [[0.0], [0.5]]


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_vectors_give_a_float32_loss(dtype):
    rng = np.random.default_rng(3)
    users, items = rng.normal(size=(2, 5, 8)).astype(np.float32)

    def loss(dtype: tf.DType) -> tf.Tensor:
        shared = Shared(tf.cast(users, dtype), tf.cast(items, dtype), tf.zeros(5), [pairs((0, 0))])
        return softmax_loss(tf.constant(np.sum(users * items, axis=1)), shared)

    assert loss(dtype).dtype == tf.float32
    assert float(loss(dtype)) == pytest.approx(float(loss(tf.float32)), rel=0.02)


def alone(
    users: tf.Tensor, items: np.ndarray, log_expected: np.ndarray, excluded: np.ndarray, score: tf.Tensor
) -> list:
    """The loss of each user by itself; excluded bool [B, n]."""
    losses = []
    for i, out in enumerate(excluded):
        places = [pairs(*((0, int(j)) for j in np.flatnonzero(out)))]
        losses.append(softmax_loss(score[i : i + 1], Shared(users[i : i + 1], items, log_expected, places)))
    return losses


# ---- the estimate of the softmax over the catalogue


def expected_sum_and_gradient(drawn: np.ndarray, chance: np.ndarray, log_expected: np.ndarray) -> tuple:
    """Expectation over all outcomes of N^ (towers/losses.py) and of its gradient with respect to the user.

    N^ is taken from the loss itself, which is log(exp(s_p) + N^) - s_p. A row for each outcome: the columns hold every
    item for every draw, of which a row leaves out all but what it drew, and the copies of the positive.

    Args: drawn int [outcomes, n], items; chance float64 [outcomes]; log_expected float64 [4].
    """
    user, items = catalogue()
    column = np.tile(np.arange(4), drawn.shape[1])
    out = np.repeat(drawn, 4, axis=1) != column
    users = tf.Variable(np.tile(user, (len(drawn), 1)))
    with tf.GradientTape() as tape:
        score = tf.linalg.matvec(users, items[POSITIVE])
        corrections = log_expected[column].astype(np.float32)
        losses = alone(users, items[column], corrections, out | (column == POSITIVE), score)
        sums = tf.exp(score) * (tf.exp(tf.stack(losses)) - 1.0)
        total = tf.reduce_sum(tf.cast(chance, tf.float32) * sums)
    return float(total), np.sum(tape.gradient(total, users).numpy(), axis=0, dtype=np.float64)


def true_sum_and_gradient() -> tuple:
    user, items = catalogue()
    negatives = np.delete(items, POSITIVE, axis=0).astype(np.float64)
    return np.exp(negatives @ user).sum(), np.exp(negatives @ user) @ negatives


def test_the_estimated_sum_and_its_gradient_are_unbiased_under_draws_by_frequency():
    """In-batch negatives and those of a queue: item j is expected n q_j times among n."""
    drawn = np.array(list(product(range(4), repeat=3)))
    total, gradient = expected_sum_and_gradient(drawn, Q[drawn].prod(axis=1), np.log(3 * Q))
    expected = true_sum_and_gradient()
    assert total == pytest.approx(expected[0], rel=1e-5)
    assert gradient == pytest.approx(expected[1], rel=1e-4)


def test_they_are_unbiased_under_mixed_negatives():
    """Two draws by frequency and two uniform ones: item j is expected 2 q_j + 2 / 4 times."""
    drawn = np.array(list(product(range(4), repeat=4)))
    chance = Q[drawn[:, :2]].prod(axis=1) * (1 / 4) ** 2
    total, gradient = expected_sum_and_gradient(drawn, chance, np.log(2 * Q + 2 / 4))
    expected = true_sum_and_gradient()
    assert total == pytest.approx(expected[0], rel=1e-5)
    assert gradient == pytest.approx(expected[1], rel=1e-4)


def test_they_are_unbiased_under_batches_of_an_epoch():
    """A batch of an epoch is drawn without replacement: beside an event, two of the six others."""
    log = np.array([0, 0, 1, 1, 2, 3, 3])  # the event in question is the last
    drawn = np.array([log[list(others)] for others in permutations(range(6), 2)])
    chance = np.full(len(drawn), 1 / len(drawn))
    counts = np.bincount(log)
    # The frequency is c / (E - 1): the share of the other events. Training uses c / E, larger by 1 / E of it.
    total, gradient = expected_sum_and_gradient(drawn, chance, np.log(2 * counts / 6))
    expected = true_sum_and_gradient()
    assert total == pytest.approx(expected[0], rel=1e-5)
    assert gradient == pytest.approx(expected[1], rel=1e-4)


def outcomes(n: int) -> Iterator[tuple[np.ndarray, float]]:
    """How often each item may come among n draws, and the probability of that."""
    for draw in combinations_with_replacement(range(4), n):
        counts = np.bincount(draw, minlength=4)
        ways = factorial(n) / np.prod([float(factorial(c)) for c in counts])
        yield counts, ways * float(np.prod(Q**counts))


def expected_gradient(n: int, logq: str) -> np.ndarray:
    """The exact expectation of the gradient of the loss over n draws, with respect to the user: float64 [D].

    A row for each outcome: the columns hold each item n times, of which a row leaves all but its own out.
    """
    user, items = catalogue()
    counts, chance = (np.array(part) for part in zip(*outcomes(n), strict=True))
    columns = np.repeat(np.arange(4), n)
    excluded = (np.tile(np.arange(n), 4) >= counts[:, columns]) | (columns == POSITIVE)
    log_expected = np.zeros(4) if logq == "none" else np.log(n * Q)
    users = tf.Variable(np.tile(user, (len(counts), 1)))
    with tf.GradientTape() as tape:
        corrections = log_expected[columns].astype(np.float32)
        places = tuple(tf.constant(part, tf.int32) for part in np.nonzero(excluded))
        positive = tf.linalg.matvec(users, items[POSITIVE]) - (log_expected[POSITIVE] if logq == "all" else 0.0)
        loss = softmax_loss(positive, Shared(users, items[columns], corrections, [places])) * len(counts)
    return chance @ tape.gradient(loss, users).numpy().astype(np.float64)


@cache
def bias(n: int, logq: str) -> float:
    """The length of what the expected gradient over n draws differs from that of the full softmax by."""
    return float(np.linalg.norm(expected_gradient(n, logq) - full_softmax_gradient(*catalogue())))


def test_the_expected_gradient_approaches_that_of_the_full_softmax_as_one_over_n():
    found = [bias(n, "negatives") for n in (8, 16, 32)]
    assert found[0] < 0.06 * np.linalg.norm(full_softmax_gradient(*catalogue()))
    assert [before / after for before, after in pairwise(found)] == pytest.approx([2.0, 2.0], rel=0.1)


@pytest.mark.parametrize("logq", ["all", "none"])
def test_the_other_corrections_stay_biased_however_many_negatives(logq):
    assert bias(32, logq) > bias(16, logq)
    assert bias(32, logq) > 5 * bias(32, "negatives")


def test_the_gradient_is_that_of_the_loss_weighted_by_the_doubt_about_the_positive():
    """Khrylchenko et al. 2025: -(1 - P(p)) d log(exp(s_p) / N^), where P is held constant."""
    user, items = catalogue()
    drawn, log_expected = np.array([0, 1, 1, 2]), np.log(4 * Q[[0, 1, 1, 2]]).astype(np.float32)
    variable = tf.Variable(user[np.newaxis])
    with tf.GradientTape(persistent=True) as tape:
        positive = tf.linalg.matvec(variable, items[POSITIVE])
        ours = softmax_loss(positive, Shared(variable, items[drawn], log_expected))
        negatives = tf.reduce_logsumexp(tf.matmul(variable, items[drawn], transpose_b=True) - log_expected, axis=1)
        doubt = tf.stop_gradient(1.0 - tf.sigmoid(positive - negatives))
        theirs = tf.reduce_sum(doubt * (negatives - positive))
    assert tape.gradient(ours, variable).numpy() == pytest.approx(tape.gradient(theirs, variable).numpy(), rel=1e-5)


def test_an_own_negative_takes_the_place_of_its_draws():
    """An item there with certainty is not corrected, its copies are left out: the sum stays unbiased."""
    user, items = catalogue()
    total = 0.0
    for draw in product(range(4), repeat=3):
        copies = [(0, j) for j in range(3) if draw[j] in (POSITIVE, 0)]
        corrections = np.log(3 * Q)[list(draw)].astype(np.float32)
        shared = Shared(user[np.newaxis], items[list(draw)], corrections, [pairs(*copies)])
        own = own_logits(user[np.newaxis], items[np.newaxis, :1], tf.zeros(1), tf.constant([[True]]), 1.0)
        loss = softmax_loss(tf.constant([user @ items[POSITIVE]]), shared, own)
        total += Q[list(draw)].prod() * np.exp(user @ items[POSITIVE]) * (np.exp(float(loss)) - 1.0)
    assert total == pytest.approx(true_sum_and_gradient()[0], rel=1e-5)
