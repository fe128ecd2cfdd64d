"""Which of a user's recent events a bundle does not know yet."""

from collections.abc import Sequence

import numpy as np


def overlap(history: np.ndarray, recent: Sequence[int]) -> int:
    """How many of the recent items the history ends with.

    A bundle made after some of the recent events has them at the end of its history, and they must not count twice:
    the longest beginning of `recent` that is also the end of `history`.

    Args:
      history: int [n], the items the bundle knows the user to have seen, oldest first.
      recent: item indices, oldest first.
    """
    known = history[len(history) - min(len(history), len(recent)) :].tolist()
    for shared in range(len(known), 0, -1):
        if known[-shared:] == list(recent[:shared]):
            return shared
    return 0
