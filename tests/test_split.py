"""pipeline/split.py against brute force on plain Python lists."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SplitConfig
from pipeline.errors import ConfigError
from pipeline.split import cut, order_events, parse_time, tie_breaker, time_bounds

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), max_size=40)
"""(user number, timestamp, item number): small ranges, so that ties abound."""
SEQUENCES = st.lists(st.lists(st.integers(0, 100)).map(sorted), max_size=8)
"""One list of ascending timestamps per user."""


def flat(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, sequences)])
    return np.array([t for sequence in sequences for t in sequence], np.int64), offsets.astype(np.int64)


def iso(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))


def test_tie_breaker_is_the_sha1_of_user_colon_item():
    # Known answer from `printf 'u1:i2' | sha1sum`.
    assert tie_breaker("u1", "i2") == "1392e169f30a1324b957f384f24e1be25b552864"


@given(EVENTS)
def test_events_are_ordered_by_user_time_and_hash(events):
    users = np.array([u for u, _, _ in events], np.int32)
    timestamps = np.array([t for _, t, _ in events], np.int64)
    user_ids, item_ids = [f"u{u}" for u, _, _ in events], [f"i{i}" for _, _, i in events]
    order = order_events(users, timestamps, lambda rows: ([user_ids[r] for r in rows], [item_ids[r] for r in rows]))
    assert sorted(order.tolist()) == list(range(len(events)))

    def key(row: int) -> tuple[int, int, str]:
        return users[row], timestamps[row], hashlib.sha1(f"{user_ids[row]}:{item_ids[row]}".encode()).hexdigest()

    assert [key(row) for row in order] == sorted(key(row) for row in range(len(events)))


@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(events, random):
    def ordered(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        users, timestamps, items = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        order = order_events(users, timestamps, lambda r: (users[r].astype(str), items[r].astype(str)))
        return [rows[row] for row in order]

    if events:
        shuffled = random.sample(events, len(events))
        assert ordered(events) == ordered(shuffled)


@given(SEQUENCES, st.booleans())
def test_leave_last_out_takes_the_last_for_test_and_the_one_before_for_validation(sequences, refit):
    train_end, validation_end = cut(*flat(sequences), SplitConfig(kind="leave_last_out", refit=refit))
    for sequence, train, validation in zip(sequences, train_end, validation_end, strict=True):
        if len(sequence) < 3:
            assert (train, validation) == (len(sequence), len(sequence))
        else:
            assert (train, validation) == (len(sequence) - (1 if refit else 2), len(sequence) - 1)


@given(SEQUENCES, st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_a_time_split_cuts_at_its_two_moments(sequences, one, other, refit):
    validation_start, test_start = sorted((one, other))
    split = SplitConfig(
        kind="time", validation_start=iso(validation_start), test_start=iso(test_start), refit=refit, min_events=1
    )
    train_end, validation_end = cut(*flat(sequences), split)
    for sequence, train, validation in zip(sequences, train_end, validation_end, strict=True):
        before_test = [t for t in sequence if t < test_start]
        assert validation == len(before_test)
        assert train == (len(before_test) if refit else sum(t < validation_start for t in sequence))


@given(SEQUENCES)
def test_without_a_split_everything_is_train(sequences):
    train_end, validation_end = cut(*flat(sequences), SplitConfig(kind="none"))
    assert train_end.tolist() == validation_end.tolist() == [len(sequence) for sequence in sequences]


@pytest.mark.parametrize("kind", ["leave_last_out", "none"])
def test_the_ends_are_int32(kind):
    for end in cut(*flat([[1, 2, 3, 4]]), SplitConfig(kind=kind)):
        assert end.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:01:00", 60),
        ("1970-01-01 00:01:00", 60),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5", 1),
        ("1969-12-31T23:59:59", -1),
    ],
)
def test_times_are_utc_unless_they_say_otherwise_and_round_up(text, seconds):
    """Events have whole seconds, so `from 0.5 on` means from 1 on."""
    assert parse_time(text, "split.test_start") == seconds


def test_a_time_that_is_none_is_refused_naming_the_setting():
    with pytest.raises(ConfigError, match=r"`split\.test_start` must be ISO 8601"):
        parse_time("last tuesday", "split.test_start")


@pytest.mark.parametrize(
    "split",
    [
        SplitConfig(kind="time"),
        SplitConfig(kind="time", test_start="2024-01-01"),
        SplitConfig(kind="time", validation_start="2024-01-01"),
        SplitConfig(kind="time", validation_start="2024-01-02", test_start="2024-01-01"),
    ],
)
def test_an_impossible_time_split_is_refused(split):
    with pytest.raises(ConfigError, match=r"split\.(test|validation)_start"):
        time_bounds(split)


def test_refit_needs_no_validation_start():
    assert time_bounds(SplitConfig(kind="time", test_start="1970-01-01T00:00:09", refit=True)) == (9, 9)
