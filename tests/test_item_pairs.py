"""beam_jobs/item_pairs.py: sessions sent to the partitions of their items, and the pairs counted there."""

from collections import Counter
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import item_pairs
from beam_jobs.item_pairs import Places, count_pairs, sent

ITEMS = 7
SESSIONS = st.lists(st.sets(st.integers(0, ITEMS - 1), min_size=1), max_size=12)


def counted(sessions: list[set[int]], of: Places, weights: np.ndarray | None = None, at_once: int = 100) -> dict:
    """The sum of each pair of different items, over all partitions."""
    session = np.repeat(np.arange(len(sessions)), [len(items) for items in sessions]).astype(np.int64)
    items = np.array([item for items in sessions for item in sorted(items)], np.int64)
    received: dict[int, list[pa.Table]] = {}
    for half in (slice(0, len(items) // 2), slice(len(items) // 2, None)):  # as of two row groups
        whole = np.isin(session, np.setdiff1d(session[half], session[: half.start or 0]))
        for partition, table in sent(session[whole], of.place(items[whole]), of, weights):
            received.setdefault(partition, []).append(table)
    found: dict[tuple[int, int], float] = {}
    for partition, tables in received.items():
        mine, other, sums = count_pairs(tables, partition, of, at_once)
        assert set((of.item(mine) % of.partitions).tolist()) == {partition}
        assert sorted(zip(mine.tolist(), other.tolist(), strict=True)) == list(
            zip(mine.tolist(), other.tolist(), strict=True)
        )
        rows = zip(of.item(mine).tolist(), of.item(other).tolist(), sums.tolist(), strict=True)
        found |= {(a, b): n for a, b, n in rows if n}
    return found


@given(SESSIONS, st.integers(1, 4), st.integers(1, 9))
def test_pairs_are_counted_both_ways_round_in_chunks_of_any_size(sessions, partitions, at_once):
    expected = Counter(pair for items in sessions for pair in permutations(items, 2))
    assert counted(sessions, Places.of(ITEMS, partitions), at_once=at_once) == expected


@given(SESSIONS, st.integers(1, 4))
def test_a_pair_weighs_what_its_sessions_do(sessions, partitions):
    weights = 0.5 ** np.arange(len(sessions))
    expected: Counter[tuple[int, int]] = Counter()
    for items, weight in zip(sessions, weights.tolist(), strict=True):
        for pair in permutations(items, 2):
            expected[pair] += weight
    assert counted(sessions, Places.of(ITEMS, partitions), weights, at_once=5) == expected


def test_a_catalogue_too_large_for_32_bits_is_counted_too():
    of = Places.of(1 << 17, 1)
    items = np.array([3, (1 << 17) - 1])
    ((partition, table),) = sent(np.zeros(2, np.int64), of.place(items), of)
    mine, other, sums = count_pairs([table], partition, of)
    pairs = zip(mine.tolist(), other.tolist(), sums.tolist(), strict=True)
    assert [pair for pair in pairs if pair[2]] == [(3, (1 << 17) - 1, 1), ((1 << 17) - 1, 3, 1)]


def test_a_session_goes_to_a_partition_once_and_alone_it_goes_nowhere():
    of = Places.of(6, 3)
    tables = dict(sent(np.array([0, 0, 0, 1]), of.place(np.array([0, 3, 1, 2])), of))
    assert {number: len(table) for number, table in tables.items()} == {0: 1, 1: 1}


@pytest.mark.parametrize("at_once", [1, 10, 1000])
def test_no_chunk_has_many_more_pairs_than_it_may(at_once, monkeypatch):
    largest = []
    whole = item_pairs._Sums.add
    monkeypatch.setattr(item_pairs._Sums, "add", lambda sums, *rows: largest.append(len(rows[0])) or whole(sums, *rows))
    counted([set(range(ITEMS))] * 10, Places.of(ITEMS, 2), at_once=at_once)
    assert max(largest) <= at_once + ITEMS


@given(st.integers(1, 40), st.integers(1, 7))
def test_places_are_a_permutation_that_keeps_partitions_together(items, partitions):
    places = Places.of(items, partitions)
    every = np.arange(items, dtype=np.int32)
    placed = places.place(every)
    assert places.item(placed).tolist() == every.tolist()
    assert placed.max() < places.size
    assert (placed // places.width).tolist() == (every % partitions).tolist()
