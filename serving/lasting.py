"""Arrays that stay as long as a bundle does."""

import math
import mmap
from typing import Any

import numpy as np


def lasting(shape: int | tuple[int, ...], dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    """Zeros, in pages of their own: a page costs memory when it is first written, and all go back with the array.

    malloc hands out what was freed before, which is in memory already, and keeps the holes that large arrays leave.
    """
    count = math.prod(shape) if isinstance(shape, tuple) else shape
    size = max(1, count * np.dtype(dtype).itemsize)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, count).reshape(shape)
