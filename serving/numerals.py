"""Scores as text of one width, written by table look-ups: several times as fast as formatting them one by one."""

import numpy as np

DECIMALS = 6
LIMIT = 10
"""Scores that have a text here lie between -LIMIT and LIMIT; cosines do."""
WORDS = 3
"""4-byte words of a score and the brace after it."""


def _words(texts: list[str]) -> np.ndarray:
    """Texts of 4 characters -> their bytes as numbers, uint32 [n]."""
    return np.frombuffer("".join(texts).encode("ascii"), np.uint32)


# `  -1.234567}` is `  -1`, `.234` and `567}`. The first two are looked up by the thousandths, negative ones apart.
_REST = _words([f"{n:03d}}}" for n in range(1000)])
_WHOLE = np.repeat(_words([f"{sign}{n}".rjust(4) for sign in ("", "-") for n in range(LIMIT)]), 1000)
_THOUSANDTHS = np.tile(_words([f".{n:03d}" for n in range(1000)]), 2 * LIMIT)


def write(scores: np.ndarray, out: np.ndarray) -> bool:
    """Scores float32 [n], rounded, into the last WORDS columns of out, uint32 [n, W]: JSON such as `  -0.123456}`.

    Returns whether all of them are finite and within LIMIT; else nothing is written.
    """
    low, high = np.minimum.reduce(scores), np.maximum.reduce(scores)  # methods take twice as long to come to these
    if not (low > 1e-3 - LIMIT and high < LIMIT - 1e-3):  # nor is a NaN
        return False
    millionths = np.rint(np.multiply(scores, 10**DECIMALS, dtype=np.float64)).astype(np.int32)
    size = millionths if low >= 0 else np.abs(millionths)
    thousandths = size // 1000
    out[:, -1] = _REST.take(size - thousandths * 1000)
    if low < 0:
        thousandths += np.multiply(millionths < 0, 1000 * LIMIT, dtype=np.int32)
    out[:, -2] = _THOUSANDTHS.take(thousandths)
    out[:, -3] = _WHOLE.take(thousandths)
    return True
