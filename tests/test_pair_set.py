"""Sets of pairs against Python's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssl_tasks import pair_set
from ssl_tasks.pair_set import PairSet
from towers.keras import tf

ROWS = 7
INDICES = st.integers(0, ROWS - 1)
PAIRS = st.lists(st.tuples(INDICES, INDICES), max_size=20)


def made(pairs: list[tuple[int, int]], rows: int) -> PairSet:
    first, second = np.array(pairs, np.int32).reshape(-1, 2).T
    return PairSet(first, second, rows)


@given(PAIRS)
def test_a_pair_is_in_the_set_that_was_put_there(pairs):
    others = tf.tile(tf.range(ROWS)[tf.newaxis], (ROWS, 1))
    found = made(pairs, ROWS).contains(tf.range(ROWS)[:, tf.newaxis], others).numpy()
    assert {(a, b) for a, b in np.argwhere(found).tolist()} == set(pairs)


def test_keys_beyond_32_bits_are_told_apart():
    rows = 5_000_000
    held = made([(4_999_999, 4_999_998), (4_999_999, 1), (1, 4_999_999)], rows)
    asked = tf.constant([[4_999_998, 4_999_997, 1, 0]])
    assert held.contains(tf.constant([[4_999_999]]), asked).numpy().tolist() == [[True, False, True, False]]


def test_most_pairs_are_told_by_the_bits(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 1000, (2, 5000))
    searched: list[int] = []
    found = PairSet._found
    monkeypatch.setattr(PairSet, "_found", lambda self, wanted: searched.append(len(wanted)) or found(self, wanted))
    PairSet(first, second, 1000).contains(tf.constant(first[:, np.newaxis], tf.int32), tf.zeros((5000, 1), tf.int32))
    assert searched[0] < 5000 / 6 / 6  # what both tables let through


def test_a_bucket_is_one_of_the_table():
    keys, spread = np.array([0, 1, 2**62, 2**63 - 1], np.int64), pair_set.SPREADS[0]
    buckets = pair_set._buckets(keys, spread, 5, np.right_shift)
    assert buckets.min() >= 0
    assert buckets.max() < 32
    assert buckets.tolist() == pair_set._buckets(tf.constant(keys), spread, 5, tf.bitwise.right_shift).numpy().tolist()
