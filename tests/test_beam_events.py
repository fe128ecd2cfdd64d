"""beam_jobs/events.py: which events are train, against the split's definition one user at a time."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.events import Events, split_by_user
from pipeline.config import SplitConfig

LOG = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(-2, 3)), min_size=1, max_size=25)
SPLITS = st.sampled_from(
    [
        SplitConfig(kind="leave_last_out"),
        SplitConfig(kind="leave_last_out", refit=True),
        SplitConfig(kind="none"),
        SplitConfig(kind="time", validation_start="1970-01-01T00:00:01", test_start="1970-01-01T00:00:02"),
    ]
)


def events_of(log: list[tuple[str, str, int]]) -> Events:
    users, items, timestamps = zip(*log, strict=True)
    columns = {"user_id": pa.array(users).dictionary_encode(), "item_id": pa.array(items).dictionary_encode()}
    return Events.from_table(pa.table({**columns, "timestamp": pa.array(timestamps, pa.int64())}))


def train_events(log: list[tuple[str, str, int]], split: SplitConfig) -> list[tuple[str, str, int]]:
    found = []
    for user in {user for user, _, _ in log}:
        own = [event for event in log if event[0] == user]
        own.sort(key=lambda e: (e[2], hashlib.sha1(f"{e[0]}:{e[1]}".encode()).hexdigest()))
        if split.kind == "time":
            own = [event for event in own if event[2] < 1]
        if split.kind == "leave_last_out" and len(own) >= 3:
            own = own[: -1 if split.refit else -2]
        found += own
    return sorted(found)


@given(LOG, SPLITS)
def test_train_rows_follow_the_split(log, split):
    rows = events_of(log).train_rows(split)
    assert sorted(event for event, train in zip(log, rows, strict=True) if train) == train_events(log, split)


@given(LOG)
def test_events_are_ordered_by_rank_then_time_then_hash(log):
    events = events_of(log)
    ranks = np.array([{"u": 2, "v": 0, "w": 1}[user] for user in events.user_ids.to_pylist()])
    key = [("vwu".index(u), t, hashlib.sha1(f"{u}:{i}".encode()).hexdigest()) for u, i, t in log]
    assert [key[row] for row in events.ordered(ranks)] == sorted(key)


@pytest.mark.parametrize("split", [SplitConfig(kind="leave_last_out"), SplitConfig(kind="none")])
def test_only_ties_at_the_cut_are_hashed(monkeypatch, split):
    hashed = []
    monkeypatch.setattr("pipeline.split.tie_breaker", lambda user, item: hashed.append(item) or f"{item:0>40}")
    log = [("u", "a", 1), ("u", "b", 1), ("u", "c", 2), ("u", "d", 3), ("u", "e", 3), ("u", "f", 4)]
    rows = events_of(log).train_rows(split)
    if split.kind == "none":
        assert (rows.all(), hashed) == (True, [])
    else:
        assert rows.tolist() == [True, True, True, True, False, False]
        assert set(hashed) == {"d", "e"}


def test_every_user_is_in_one_partition(tmp_path):
    import pyarrow.parquet as pq

    from beam_jobs import blocks

    log = [(f"u{i % 7}", f"i{i % 5}", i) for i in range(60)]
    table = pa.table(dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*log, strict=True)), strict=True)))
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=13)
    homes: dict[str, set[int]] = {}
    for source in blocks.row_groups([tmp_path / "log.parquet"]):
        for partition, block in split_by_user(source, 3):
            for user in blocks.unpack(block)["user_id"].to_pylist():
                homes.setdefault(user, set()).add(partition)
    assert len(homes) == 7
    assert all(len(partitions) == 1 for partitions in homes.values())
