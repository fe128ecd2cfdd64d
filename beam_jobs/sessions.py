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


def distinct_items(session: np.ndarray, items: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different items of each session, without unknown ones (0); of more than `most` those that appear first.

    session: int64 [n], ascending; items: int [n], in the order of their appearance.
    Returns: (session, item), int64 [m] each, ascending; the session of each item that was cut, int64, ascending.
    """
    session, items = session[items > 0], items[items > 0]
    width = 1 + int(items.max(initial=0))
    keys, cut = session * width + items, np.zeros(0, np.int64)
    long = np.bincount(session)[session] > most  # those with fewer events have no more items either
    if long.any():
        rows = np.flatnonzero(long)
        first = rows[blocks.first_rows(keys[rows])]
        beyond = positions(session[first]) >= most
        cut = session[first[beyond]]
        keys = np.concatenate((keys[~long], keys[first[~beyond]]))
    return *blocks.divided(blocks.distinct(keys), width), cut


def positions(groups: np.ndarray) -> np.ndarray:
    """How many rows of its own group come before each row: int64 [n]. Groups are contiguous."""
    starts = blocks.run_starts(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
