"""Arrays in pages of their own: zeros of any shape that cost memory only where they are written."""

import re
from pathlib import Path

import numpy as np
import pytest

from serving.lasting import lasting


@pytest.mark.parametrize("shape", [0, 5, (3, 4), (0, 7)])
def test_zeros_of_the_shape_that_can_be_written(shape: int | tuple[int, ...]) -> None:
    array = lasting(shape, np.int32)
    np.testing.assert_array_equal(array, np.zeros(shape, np.int32))
    array += 3
    assert np.all(array == 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_is_used_where_written_and_given_back() -> None:
    before = anonymous_kilobytes()
    array = lasting((1 << 18, 256), np.uint8)
    assert anonymous_kilobytes() - before < 8_000
    array[:] = 1
    assert anonymous_kilobytes() - before > 60_000
    del array
    assert anonymous_kilobytes() - before < 8_000


def anonymous_kilobytes() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
