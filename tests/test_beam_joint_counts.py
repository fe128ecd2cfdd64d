"""beam_jobs/joint_counts.py: joint masses against plain Python, and chunks counted once."""

from collections import defaultdict
from itertools import combinations, product

import pyarrow as pa
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, small_parts, write_log
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.catalogue_counts import ValueSets
from beam_jobs.joint_counts import joint_mass, pair_number

FEW, MANY = st.sampled_from("abc"), st.text("abcdef", min_size=1, max_size=3)


@st.composite
def two_fields(draw: st.DrawFn) -> tuple[list[set[str]], ...]:
    """The value sets of some rows in two fields, each of few values or many, single-valued or not."""
    rows = draw(st.integers(1, 30))

    def field() -> list[set[str]]:
        values, most = draw(st.sampled_from([FEW, MANY])), draw(st.sampled_from([1, 3]))
        return draw(st.lists(st.sets(values, max_size=most), min_size=rows, max_size=rows))

    return field(), field()


@given(two_fields())
def test_a_row_spreads_its_mass_over_the_pairs_of_its_sets(fields):
    a, b = (ValueSets.of(pa.chunked_array([list(map(list, f))], pa.list_(pa.string())), "multi") for f in fields)
    expected = defaultdict(float)
    for one, other in zip(*fields, strict=True):
        for x, y in product(one or {""}, other or {""}):
            expected[x, y] += 1 / (max(1, len(one)) * max(1, len(other)))
    rows = joint_mass(a, b).to_pylist()
    assert {(a.values[r["a"]].as_py(), b.values[r["b"]].as_py()): r["mass"] for r in rows} == pytest.approx(expected)
    assert rows == sorted(rows, key=lambda row: (row["a"], row["b"]))


@pytest.mark.parametrize("fields", [2, 3, 7])
def test_pairs_are_numbered_as_they_are_written(fields):
    assert [pair_number(i, j, fields) for i, j in combinations(range(fields), 2)] == list(
        range(fields * (fields - 1) // 2)
    )


def test_only_new_chunks_are_counted(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=8)
    config = small_config(tmp_path)
    rows, users = random_catalogue(seed=3, items=40)

    def counted(items: int) -> tuple[int, int]:
        write_log(config, random_log(seed=3), SCHEMA, {name: column[:items] for name, column in rows.items()}, users)
        found = run_through(config, "joint_counts").counts
        return found["chunks"], found["chunks_counted"]

    assert counted(20) == (3, 3)  # 8 items a chunk
    assert counted(30) == (4, 2)  # the third has grown, the fourth is new
