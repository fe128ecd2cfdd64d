"""Sessions: runs of a user's events, and the distinct items of each. numpy only."""

import numpy as np

from beam_jobs import blocks

SECONDS_A_DAY = 86_400


def decay(timestamps: np.ndarray, window_end: int, half_life_days: float) -> np.ndarray:
    """0.5 ** (age / half-life), float64 [n]: the age of what happened on the window's last day (UTC) is 0 days.

    timestamps, window_end: Unix seconds; window_end: the midnight that ends the last day.
    """
    age = np.maximum(0, (window_end - 1 - timestamps) // SECONDS_A_DAY)
    return 0.5 ** (age / half_life_days)


def session_numbers(users: np.ndarray, timestamps: np.ndarray, gap: int) -> np.ndarray:
    """The session of each event, 0, 1, ... : int64 [n]. Events come user after user, each user's in order."""
    new = (users[1:] != users[:-1]) | (timestamps[1:] - timestamps[:-1] > gap)
    return np.concatenate(([0], np.cumsum(new))).astype(np.int64)[: len(users)]


def distinct_items(session: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(session, item) without unknown items and repeats, in the order of first appearance. session: ascending."""
    session, items = session[items > 0], items[items > 0]
    keys = session * (1 + items.max(initial=0)) + items
    first = blocks.first_rows(keys)
    return session[first], items[first]


def positions(groups: np.ndarray) -> np.ndarray:
    """How many rows of its own group come before each row: int64 [n]. Groups are contiguous."""
    starts = blocks.run_starts(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
