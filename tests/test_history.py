"""The two forms of a history against NumPy, and their gradients against those of a plain gather."""

import numpy as np
import pytest

from towers.history import History, for_two, take
from towers.keras import tf

RANDOM = np.random.default_rng(0)
EMBEDDED = RANDOM.normal(size=(5, 3)).astype(np.float32)
ROWS = np.array([[0, 1, 1], [4, 2, 0], [0, 0, 0], [3, 3, 3]], np.int32)
PRESENT = np.array([[0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 1]], bool)
AT_PLACES = EMBEDDED[ROWS]  # (B, L, W)


def histories(embedded: tf.Tensor) -> dict[str, History]:
    """The same history with a row per distinct item and with a row per place."""
    return {
        "distinct": History(embedded, tf.constant(PRESENT), tf.constant(ROWS)),
        "places": History(tf.gather(embedded, ROWS.ravel()), tf.constant(PRESENT)),
    }


@pytest.mark.parametrize("form", ["distinct", "places"])
def test_items_are_the_rows_at_their_places(form):
    assert np.array_equal(histories(tf.constant(EMBEDDED))[form].items(), AT_PLACES)


@pytest.mark.parametrize("form", ["distinct", "places"])
def test_the_mean_is_over_the_items_present_and_0_without_any(form):
    expected = [
        row[here].mean(axis=0) if here.any() else np.zeros(3) for row, here in zip(AT_PLACES, PRESENT, strict=True)
    ]
    assert histories(tf.constant(EMBEDDED))[form].mean().numpy() == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("read", ["items", "mean"])
def test_both_forms_have_one_gradient(read):
    embedded, gradients = tf.Variable(EMBEDDED), []
    for form in ("distinct", "places"):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(getattr(histories(embedded)[form], read)()))
        gradients.append(tf.convert_to_tensor(tape.gradient(loss, embedded)).numpy())
    assert gradients[0] == pytest.approx(gradients[1], abs=1e-6)


@pytest.mark.parametrize("read", ["items", "mean"])
def test_what_is_read_and_its_gradient_are_the_same_to_the_bit_each_time(read):
    """A resumed run depends on it; the sizes are those of a step, which several threads share."""
    embedded = tf.constant(RANDOM.normal(size=(20_000, 64)).astype(np.float32))
    rows = tf.constant(np.minimum(RANDOM.zipf(1.2, (4096, 20)), 19_999).astype(np.int32))

    @tf.function
    def found_and_gradient() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(embedded)
            found = getattr(History(embedded, rows > 1, rows), read)()
            loss = tf.reduce_sum(tf.sin(found))
        return found, tape.gradient(loss, embedded)

    found = {tuple(each.numpy().tobytes() for each in found_and_gradient()) for _ in range(10)}
    assert len(found) == 1


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_gradients_of_two_readers_are_those_of_one(dtype):
    rows, found = tf.constant([4, 0, 2]), []
    for read in (for_two, lambda embedded: (embedded, embedded)):
        embedded = tf.Variable(EMBEDDED)
        with tf.GradientTape() as tape:
            every, some = read(tf.cast(embedded, dtype))
            mean = History(every, tf.constant(PRESENT), tf.constant(ROWS)).mean()
            loss = tf.reduce_sum(tf.sin(mean)) + tf.reduce_sum(tf.sin(tf.gather(some, rows)))
        found.append(tf.convert_to_tensor(tape.gradient(loss, embedded)).numpy())
    assert found[0] == pytest.approx(found[1], abs=1e-6 if dtype == tf.float32 else 0.02)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("rows", [[4, 0, 4], []])
def test_take_is_a_gather_also_of_nothing(rows, dtype):
    embedded, expected = tf.Variable(EMBEDDED), np.zeros_like(EMBEDDED)
    with tf.GradientTape() as tape:
        taken = take(tf.cast(embedded, dtype), tf.constant(rows, tf.int32))
        loss = tf.reduce_sum(taken)
    assert np.array_equal(taken, tf.cast(EMBEDDED[np.array(rows, int)], dtype))
    np.add.at(expected, np.array(rows, int), 1)
    assert np.array_equal(tape.gradient(loss, embedded), expected)
