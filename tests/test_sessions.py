"""beam_jobs/sessions.py: where a session ends, and which items count in it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.sessions import distinct_items, session_numbers


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), max_size=20), st.integers(1, 5))
def test_a_session_ends_at_a_gap_or_with_the_user(rows, gap):
    rows = sorted(rows)
    users, times = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    expected, number = [], -1
    for i, (user, time) in enumerate(rows):
        number += i == 0 or rows[i - 1][0] != user or time - rows[i - 1][1] > gap
        expected.append(number)
    assert session_numbers(users, times, gap).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_the_first_different_known_items_of_a_session_are_kept(rows, most):
    rows = sorted(rows, key=lambda row: row[0])
    session, items = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    kept, cut = [], []
    for number in range(4):
        different = list(dict.fromkeys(item for s, item in rows if s == number and item))
        kept += [(number, item) for item in sorted(different[:most])]
        cut += [number] * len(different[most:])
    found_session, found_items, found_cut = distinct_items(session, items, most)
    assert list(zip(found_session.tolist(), found_items.tolist(), strict=True)) == kept
    assert found_cut.tolist() == cut
