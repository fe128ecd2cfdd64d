"""Small user sequences made in a test."""

import numpy as np
from hypothesis import strategies as st

from pipeline.config import SplitConfig
from pipeline.sequences import UserSequences
from pipeline.split import cut

Log = list[list[tuple[int, int]]]
"""Users, each a list of (timestamp, item) in order."""

TIME_SPLIT = SplitConfig(kind="time", validation_start="1970-01-01T00:00:30", test_start="1970-01-01T00:01:00")
"""Validation from second 30, test from second 60."""


def sequences(log: Log, split: SplitConfig) -> UserSequences:
    """User 1 is the first of the log."""
    offsets = np.concatenate(([0], np.cumsum([len(user) for user in log]))).astype(np.int64)
    timestamps = np.array([time for user in log for time, _ in user], np.int64)
    items = np.array([item for user in log for _, item in user], np.int32)
    users = np.arange(1, len(log) + 1, dtype=np.int32)
    return UserSequences(users, offsets, items, timestamps, *cut(timestamps, offsets, split))


def logs(items: int, min_users: int = 0) -> st.SearchStrategy[Log]:
    """Random logs over item indices 0 .. items, with repeats and events on every side of TIME_SPLIT."""
    user = st.lists(st.tuples(st.integers(0, 90), st.integers(0, items)), min_size=1, max_size=9).map(sorted)
    return st.lists(user, min_size=min_users, max_size=6)
