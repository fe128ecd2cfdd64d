"""How one user's events are ordered and cut into train, validation and test. Pure numpy."""

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from pipeline.config import SplitConfig
from pipeline.errors import ConfigError


def tie_breaker(user_id: str, item_id: str) -> str:
    """The sha1 hex of "user:item": an order among equal timestamps that says nothing about the events."""
    return hashlib.sha1(f"{user_id}:{item_id}".encode()).hexdigest()


def order_events(
    users: np.ndarray, timestamps: np.ndarray, ids: Callable[[np.ndarray], tuple[Sequence[str], Sequence[str]]]
) -> np.ndarray:
    """The permutation that sorts events by (user, timestamp, tie breaker).

    Args:
      users: int [n], a number >= 0 per user, in whose order the groups come.
      timestamps: int64 [n], seconds.
      ids: rows int64 [m] -> (their user ids, their item ids); asked once, for the rows where (user, timestamp) repeats.
    Returns: int64 [n].
    """
    if not len(users):
        return np.zeros(0, dtype=np.int64)
    order = order_by(users, timestamps - timestamps.min())
    repeats = (users[order][1:] == users[order][:-1]) & (timestamps[order][1:] == timestamps[order][:-1])
    tied = np.flatnonzero(np.append(repeats, False) | np.append(False, repeats))
    rows = order[tied]
    group = np.cumsum(~np.append(False, repeats))[tied]
    hashes = "".join(map(tie_breaker, *ids(rows)))
    # 40 hex digits as 5 numbers of 8, which compare as the text does. Two events that agree on the first 32 are
    # of the same user and item: their order changes nothing.
    words = np.frombuffer(hashes.encode(), dtype=">u8").reshape(-1, 5).astype(np.int64)
    order[tied] = rows[np.lexsort((*words[:, 3::-1].T, group))]
    return order


def order_by(*keys: np.ndarray) -> np.ndarray:
    """The permutation that sorts by the first key, then the second, ..., then the row: int64 [n].

    keys: integers >= 0, [n]. Where they fit, all keys and the row number are packed into one int64, which
    numpy sorts ten times faster than it sorts indices.
    """
    rows = len(keys[0])
    widths = [int(key.max(initial=0)).bit_length() for key in (*keys, np.array([rows]))]
    if sum(widths) > 63:
        return np.lexsort(keys[::-1])
    packed = np.zeros(rows, dtype=np.int64)
    for key, width in zip((*keys, np.arange(rows)), widths, strict=True):
        packed <<= width
        packed |= key
    packed.sort()
    return packed & ((1 << widths[-1]) - 1)


def cut(timestamps: np.ndarray, offsets: np.ndarray, split: SplitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Where each user's train and validation parts end.

    Args:
      timestamps: int64 [n], each user's events in order, user after user.
      offsets: int64 [users + 1], user u owns rows offsets[u] .. offsets[u + 1].
    Returns: (train_end, validation_end), int32 [users], counted from the user's first event. Events from
      validation_end on are the test. A user too short for leave_last_out is all train.
    """
    lengths = np.diff(offsets).astype(np.int32)
    if split.kind == "none":
        return lengths, lengths
    if split.kind == "leave_last_out":
        test = np.where(lengths >= 3, 1, 0).astype(np.int32)
        validation_end = lengths - test
        return validation_end - (0 if split.refit else test), validation_end
    validation_start, test_start = time_bounds(split)
    before_test = _count_before(timestamps, offsets, test_start)
    return _count_before(timestamps, offsets, validation_start), before_test


def time_bounds(split: SplitConfig) -> tuple[int, int]:
    """(validation_start, test_start) of a `time` split in Unix seconds; equal when `refit`."""
    if split.test_start is None or (split.validation_start is None and not split.refit):
        raise ConfigError(
            "split.kind `time` needs `split.test_start`, and `split.validation_start` unless `split.refit`"
        )
    test = parse_time(split.test_start, "split.test_start")
    if split.refit or split.validation_start is None:
        return test, test
    validation = parse_time(split.validation_start, "split.validation_start")
    if validation > test:
        raise ConfigError("split.validation_start must not be after split.test_start")
    return validation, test


def parse_time(text: str, setting: str) -> int:
    """ISO 8601, UTC unless it says otherwise -> the first whole Unix second from then on.

    Raises ConfigError naming the setting.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"`{setting}` must be ISO 8601 such as 2024-01-31T00:00:00, but is {text!r}") from None
    return math.ceil((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _count_before(timestamps: np.ndarray, offsets: np.ndarray, bound: int) -> np.ndarray:
    before = np.concatenate(([0], np.cumsum(timestamps < bound)))
    return (before[offsets[1:]] - before[offsets[:-1]]).astype(np.int32)
