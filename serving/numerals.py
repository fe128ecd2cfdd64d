"""Scores as text of one width, written by table look-ups: several times as fast as formatting them one by one."""

from collections.abc import Sequence

import numpy as np

DECIMALS = 6
LIMIT = 10
"""Scores that have a text here lie between -LIMIT and LIMIT; cosines do."""
WORDS = 3
"""4-byte words of a score and the brace after it."""
ZERO = b"   0.000000}"


def _words(texts: list[str]) -> np.ndarray:
    """Texts of 4 characters -> their bytes as numbers, uint32 [n]."""
    return np.frombuffer("".join(texts).encode("ascii"), np.uint32)


# `  -1.234567}` is `  -1`, `.234` and `567}`. The first two are looked up by the thousandths, negative ones apart.
_REST = _words([f"{n:03d}}}" for n in range(1000)])
_WHOLE = np.repeat(_words([f"{sign}{n}".rjust(4) for sign in ("", "-") for n in range(LIMIT)]), 1000)
_THOUSANDTHS = np.tile(_words([f".{n:03d}" for n in range(1000)]), 2 * LIMIT)

# Arrays of no dimension: NumPy converts its own scalars, and Python's, on every use.
_MILLION, _THOUSAND = np.array(10**DECIMALS, np.float64), np.array(1000, np.int32)
_ALMOST_1 = 1 - 10.0**-DECIMALS


def are_shares(scores: np.ndarray) -> bool:
    """Whether scores float32 [n], n > 0, in descending order, are from 0 to 1, as they most often are."""
    return bool(_ALMOST_1 > scores.item(0) >= scores.item(-1) >= 0)


def write(scores: np.ndarray, words: Sequence[np.ndarray], shares: bool) -> bool:
    """Scores float32 [n], rounded, into the WORDS words of each, every one uint32 [n]: JSON such as `  -0.123456}`.

    shares: they are, and the words hold ZERO or what was written of other shares. Returns whether all scores are finite
    and within LIMIT; else nothing is written.
    """
    low = 0.0
    if not shares:
        low, high = np.minimum.reduce(scores), np.maximum.reduce(scores)  # methods take twice as long to come to these
        if not (low > 1e-3 - LIMIT and high < LIMIT - 1e-3):  # nor is a NaN
            return False
    whole, decimals, rest = words
    exact = scores.astype(np.float64)
    exact *= _MILLION
    millionths = np.rint(exact, exact).astype(np.int32)
    size = millionths if low >= 0 else np.abs(millionths)
    thousandths = size // _THOUSAND
    rest[...] = _REST.take(size - thousandths * _THOUSAND)
    if low < 0:
        thousandths += np.multiply(millionths < 0, 1000 * LIMIT, dtype=np.int32)
    decimals[...] = _THOUSANDTHS.take(thousandths)
    if not shares:
        whole[...] = _WHOLE.take(thousandths)
    return True
