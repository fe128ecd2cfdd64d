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

_MILLION, _THOUSAND = np.float64(10**DECIMALS), np.int32(1000)  # Python's own numbers are converted on every use
# The bits of floats, read as whole numbers, have the order of the floats from 0 on; NaN and those below 0 come after.
_ALMOST_1 = np.float32(1 - 10.0**-DECIMALS).view(np.uint32)


def write(scores: np.ndarray, out: np.ndarray) -> bool:
    """Scores float32 [n], rounded, into the last WORDS columns of out, uint32 [n, W]: JSON such as `  -0.123456}`.

    Returns whether all of them are finite and within LIMIT; else nothing is written.
    """
    low = 0.0
    share = np.maximum.reduce(scores.view(np.uint32)) < _ALMOST_1  # from 0 to 1, as most often, all of them
    if not share:
        low, high = np.minimum.reduce(scores), np.maximum.reduce(scores)  # methods take twice as long to come to these
        if not (low > 1e-3 - LIMIT and high < LIMIT - 1e-3):  # nor is a NaN
            return False
    exact = scores * _MILLION
    millionths = np.rint(exact, exact).astype(np.int32)
    size = millionths if low >= 0 else np.abs(millionths)
    thousandths = size // _THOUSAND
    out[:, -1] = _REST.take(size - thousandths * _THOUSAND)
    if low < 0:
        thousandths += np.multiply(millionths < 0, 1000 * LIMIT, dtype=np.int32)
    out[:, -2] = _THOUSANDTHS.take(thousandths)
    out[:, -3] = _WHOLE[0] if share else _WHOLE.take(thousandths)
    return True
