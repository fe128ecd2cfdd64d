"""beam_jobs/events.py: order, repeats and the train part, against one user at a time."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.events import UserEvents, in_order, repeats
from pipeline.config import SplitConfig

Event = tuple[str, str, int]
LOG = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(-2, 3)), min_size=1, max_size=25)
SPLITS = st.sampled_from(
    [
        SplitConfig(kind="leave_last_out"),
        SplitConfig(kind="leave_last_out", refit=True),
        SplitConfig(kind="none"),
        SplitConfig(kind="time", validation_start="1970-01-01T00:00:01", test_start="1970-01-01T00:00:02"),
    ]
)


def table_of(log: list[Event]) -> pa.Table:
    users, items, timestamps = zip(*log, strict=True)
    columns = {"user_id": pa.array(users).dictionary_encode(), "item_id": pa.array(items).dictionary_encode()}
    return pa.table({**columns, "timestamp": pa.array(timestamps, pa.int64())})


def rows_of(table: pa.Table) -> list[Event]:
    return list(zip(*(table[name].to_pylist() for name in ("user_id", "item_id", "timestamp")), strict=True))


def by_time(log: list[Event]) -> list[Event]:
    return sorted(log, key=lambda e: (e[2], hashlib.sha1(f"{e[0]}:{e[1]}".encode()).hexdigest()))


ITEMS = pa.array(list("abcd"))
"""Of which the codes of UserEvents are places."""


def users_of(events: UserEvents) -> dict[str, list[tuple[str, int]]]:
    items = ITEMS.take(pa.array(events.items)).to_pylist()
    pairs = list(zip(items, events.timestamps.tolist(), strict=True))
    bounds = events.offsets.tolist()
    return {u: pairs[a:b] for u, a, b in zip(events.user_ids.to_pylist(), bounds, bounds[1:], strict=False)}


def events_of(log: list[Event]) -> UserEvents:
    """The log as complete users, one at a time."""
    own = expected_users(log)
    events = [event for rows in own.values() for event in rows]
    return UserEvents(
        pa.array(list(own)),
        np.concatenate(([0], np.cumsum([len(rows) for rows in own.values()]))),
        np.array(["abcd".index(item) for item, _ in events], np.int32),
        np.array([timestamp for _, timestamp in events], np.int64),
    )


def expected_users(log: list[Event]) -> dict[str, list[tuple[str, int]]]:
    return {u: [e[1:] for e in by_time(log) if e[0] == u] for u in {e[0] for e in log}}


@given(LOG)
def test_events_are_ordered_by_user_then_time_then_hash(log):
    users = list(dict.fromkeys(user for user, _, _ in log))
    expected = [event for user in users for event in by_time([e for e in log if e[0] == user])]
    assert rows_of(in_order(table_of(log))) == expected


@given(LOG)
def test_repeats_are_all_but_the_first_of_equal_events(log):
    ordered = in_order(table_of(log))
    assert repeats(ordered).sum() == len(log) - len(set(log))
    kept = ordered.filter(pa.array(~repeats(ordered)))
    assert sorted(rows_of(kept)) == sorted(set(log))


@given(LOG, st.integers(1, 4))
def test_the_latest_events_of_each_user(log, most):
    events = events_of(log).latest(most)
    assert users_of(events) == {user: own[-most:] for user, own in expected_users(log).items()}


@given(LOG, st.integers(-2, 3))
def test_only_some_events_of_all_users(log, since):
    events = events_of(log)
    found = users_of(events.where(events.timestamps >= since))
    assert found == {user: [e for e in own if e[1] >= since] for user, own in expected_users(log).items()}


@given(LOG, st.permutations(range(3)))
def test_users_are_selected_in_the_asked_order(log, order):
    events = events_of(log)
    places = [place for place in order if place < len(events.user_ids)]
    names = [events.user_ids[place].as_py() for place in places]
    expected = expected_users(log)
    assert list(users_of(events.select(places)).items()) == [(name, expected[name]) for name in names]


@given(LOG, SPLITS)
def test_train_rows_follow_the_split(log, split):
    events = events_of(log)
    train = events.train_rows(split)
    bounds = events.offsets.tolist()
    for (_, own), start, stop in zip(users_of(events).items(), bounds, bounds[1:], strict=False):
        expected = len(own)
        if split.kind == "time":
            expected = sum(timestamp < 1 for _, timestamp in own)
        if split.kind == "leave_last_out" and len(own) >= 3:
            expected -= 1 if split.refit else 2
        assert train[start:stop].tolist() == [True] * expected + [False] * (len(own) - expected)
