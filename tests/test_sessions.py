"""beam_jobs/sessions.py: where a session ends."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.sessions import session_numbers


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), max_size=20), st.integers(1, 5))
def test_a_session_ends_at_a_gap_or_with_the_user(rows, gap):
    rows = sorted(rows)
    users, times = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    expected, number = [], -1
    for i, (user, time) in enumerate(rows):
        number += i == 0 or rows[i - 1][0] != user or time - rows[i - 1][1] > gap
        expected.append(number)
    assert session_numbers(users, times, gap).tolist() == expected
