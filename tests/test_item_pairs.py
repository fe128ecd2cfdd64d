"""beam_jobs/item_pairs.py: pairs of items as keys, and where they lie."""

from collections import Counter
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.item_pairs import Places, mirrored, pair_keys


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=30), st.integers(1, 7))
def test_pairs_of_distinct_items_in_chunks_of_any_size(rows, chunk):
    rows = sorted(dict.fromkeys(rows))
    session, items = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    chunks = pair_keys(session, items, size=7, at_once=chunk)
    keys = [key for keys, _ in chunks for key in keys.tolist()]
    expected = Counter(
        a * 7 + b for s in set(session.tolist()) for a, b in combinations(sorted(i for t, i in rows if t == s), 2)
    )
    assert Counter(keys) == expected


@given(
    st.dictionaries(st.integers(0, 6 * 7 + 6), st.integers(1, 9), max_size=20), st.sampled_from([np.int64, np.float64])
)
def test_mirrored_keys_are_in_order_and_keep_their_weights(pairs, dtype):
    keys = np.array(sorted(pairs), np.int64)
    weights = np.array([pairs[key] for key in keys.tolist()], dtype)
    found, moved = mirrored(keys, weights, size=7)
    expected = sorted((key % 7 * 7 + key // 7, weight) for key, weight in pairs.items())
    assert list(zip(found.tolist(), moved.tolist(), strict=True)) == expected
    assert moved.dtype == dtype


@given(st.integers(1, 40), st.integers(1, 7))
def test_places_are_a_permutation_that_keeps_partitions_together(items, partitions):
    places = Places.of(items, partitions)
    every = np.arange(items, dtype=np.int32)
    placed = places.place(every)
    assert places.item(placed).tolist() == every.tolist()
    assert placed.max() < places.size
    assert (placed // places.width).tolist() == (every % partitions).tolist()
