"""Frequencies of draws: counted ones, and the streaming estimate against its definition and known frequencies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config_loss import FrequencyConfig
from towers.frequency import CountedFrequency, StreamingFrequency
from towers.keras import tf


def streaming(rows: int, **config: float) -> StreamingFrequency:
    return StreamingFrequency(rows, FrequencyConfig.model_validate({"source": "streaming", **config}))


def probabilities(frequency: StreamingFrequency, items: list[int] | range) -> np.ndarray:
    return frequency.probability(tf.constant(list(items), tf.int32)).numpy()


def one_by_one(batches: list[list[int]], rows: int, rate: float) -> np.ndarray:
    """Algorithm 2 of Yi et al. for a stream of examples, with a step size of 1 / k until that is the rate."""
    last, interval, seen = {}, {}, {}
    clock = 0
    for item in (item for batch in batches for item in batch):
        clock += 1
        seen[item] = seen.get(item, 0) + 1
        step = max(rate, 1 / seen[item])
        interval[item] = (1 - step) * interval.get(item, 0.0) + step * (clock - last.get(item, 0))
        last[item] = clock
    return np.array([1 / interval.get(item, max(clock, rows)) for item in range(rows)])


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from([0.05, 0.3, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_at_a_time_equals_example_after_example(batches, rate):
    frequency = streaming(7, rate=rate)
    for batch in batches:
        frequency.update(tf.constant(batch, tf.int32))
    assert probabilities(frequency, range(7)) == pytest.approx(one_by_one(batches, 7, rate), rel=1e-4)


def test_known_frequencies_are_found():
    """The mean of n intervals has a relative deviation of 1 / sqrt(n); a moving one with rate a that of n = 2 / a."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 200)
    share /= share.sum()
    frequency = streaming(200, rate=0.01)
    update = tf.function(frequency.update)
    for _ in range(100):
        update(tf.constant(rng.choice(np.arange(1, 200), 1024, p=share).astype(np.int32)))
    ratio = probabilities(frequency, range(1, 200)) / share
    assert np.std(ratio) == pytest.approx(np.sqrt(0.01 / 2), rel=0.25)
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)


def test_frequencies_that_change_are_followed():
    frequency = streaming(4, rate=0.05)
    for item in (1, 2):
        for _ in range(30):
            frequency.update(tf.constant([item, item, item, 3] * 8, tf.int32))
    found = probabilities(frequency, [1, 2, 3])
    # What no longer comes keeps its last estimate: there is no interval to learn from.
    assert found == pytest.approx([0.75, 0.75, 0.25], rel=0.1)


def test_of_an_items_slots_the_one_with_the_fewest_collisions_counts():
    rng = np.random.default_rng(1)
    items, rows = rng.choice(100_000, 64, replace=False), 100_001
    exact, hashed, single = streaming(rows), streaming(rows, slots=256, hashes=3), streaming(rows, slots=256, hashes=1)
    for _ in range(30):
        batch = tf.constant(rng.choice(items, 256).astype(np.int32))
        for frequency in (exact, hashed, single):
            frequency.update(batch)
    truth, three, one = (probabilities(frequency, items) for frequency in (exact, hashed, single))
    assert np.all(three >= truth * 0.999)
    # One of 256 slots is shared by an item in five; all three of an item's in a hundred.
    assert np.count_nonzero(one > truth * 1.01) > 6
    assert np.count_nonzero(three > truth * 1.01) < 3


def test_the_estimate_outlives_a_checkpoint(tmp_path):
    frequency, restored = streaming(6), streaming(6)
    frequency.update(tf.constant([1, 2, 2, 5], tf.int32))
    tf.train.Checkpoint(frequency=frequency).write(str(tmp_path / "frequency"))
    tf.train.Checkpoint(frequency=restored).read(str(tmp_path / "frequency")).assert_consumed()
    for each in (frequency, restored):
        each.update(tf.constant([2, 3], tf.int32))
    assert np.array_equal(probabilities(frequency, range(6)), probabilities(restored, range(6)))


def test_counted_frequencies_are_shares_of_the_events():
    found = CountedFrequency(np.array([9, 6, 0, 2])).probability(tf.constant([0, 1, 2, 3]))
    assert found.numpy() == pytest.approx([0.0, 0.75, 0.0, 0.25])
