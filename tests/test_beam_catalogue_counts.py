"""beam_jobs/catalogue_counts.py: value sets against plain Python, and chunks counted once."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, small_parts, write_log
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import catalogue_counts
from beam_jobs.catalogue_counts import ValueSets, read_chunks, read_sets

LISTS = st.lists(st.none() | st.lists(st.none() | st.sampled_from(["", "a", "b", "c"]), max_size=4), min_size=1)
NUMBERS = st.none() | st.sampled_from([1.0, 2.5, float("nan")])


def named(sets: ValueSets) -> list[set]:
    """The value sets of the rows, NaN as None."""
    values = [None if value != value else value for value in np.asarray(sets.values).tolist()]
    stops = np.cumsum(sets.lengths)
    codes = sets.codes.tolist()
    return [{values[c] for c in codes[a:b]} for a, b in zip(stops - sets.lengths, stops, strict=True)]


@given(LISTS)
def test_a_list_is_a_set_and_nothing_is_missing(lists):
    sets = ValueSets.of(pa.chunked_array([lists], pa.list_(pa.string())), "multi")
    assert named(sets) == [{v for v in values or [] if v} or {""} for values in lists]


@given(st.lists(st.none() | st.sampled_from(["", "a"]), min_size=1))
def test_a_categorical_value_is_its_own_set(values):
    sets = ValueSets.of(pa.chunked_array([values], pa.string()), "categorical")
    assert named(sets) == [{value or ""} for value in values]


@given(st.lists(NUMBERS, min_size=1))
def test_numbers_are_values_and_nan_is_missing(numbers):
    sets = ValueSets.of(pa.chunked_array([numbers], pa.float64()), "numeric")
    assert named(sets) == [{None if n is None or n != n else n} for n in numbers]


@given(LISTS)
def test_values_carry_their_rows_and_their_mass(lists):
    sets = ValueSets.of(pa.chunked_array([lists], pa.list_(pa.string())), "multi")
    counts, mass = Counter(v for row in named(sets) for v in row), defaultdict(float)
    for row in named(sets):
        for value in row:
            mass[value] += 1 / len(row)
    table = sets.table()
    found = {v: n for v, n in zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True) if n}
    assert found == counts
    for value, weight in zip(table["value"].to_pylist(), table["mass"].to_pylist(), strict=True):
        assert weight == pytest.approx(mass[value])


def test_only_new_chunks_are_counted(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=8)
    config = small_config(tmp_path)
    log = random_log(seed=3)

    def counts(items: int) -> tuple[int, int]:
        rows, users = random_catalogue(seed=3, items=40)
        write_log(config, log, SCHEMA, {name: column[:items] for name, column in rows.items()}, users)
        found = run_through(config, "catalogue_counts").counts
        return found["chunks"], found["chunks_counted"]

    assert counts(20) == (3 + 4, 7)  # 20 items and 30 users, 8 a chunk
    assert counts(30) == (4 + 4, 2)  # the third chunk of items has grown, the fourth is new
    assert counts(30) == (4 + 4, 2)  # skipped: still what was counted then


def test_a_chunk_no_list_names_is_collected(tmp_path):
    config = small_config(tmp_path)
    for seed in (1, 2, 3):  # a catalogue of its own each; the one before the last is kept for its readers
        write_log(config, random_log(seed=1), SCHEMA, *random_catalogue(seed))
        run_through(config, "catalogue_counts")
    folders = {path.name for path in config.prepared_dir(catalogue_counts.KIND).glob("*-*")}
    _, chunks = read_chunks(config)
    assert len(folders) == 4
    assert len(chunks["item"]) == len(chunks["user"]) == 1


def test_identical_catalogues_give_identical_chunks(tmp_path):
    fingerprints = []
    for name in ("a", "b"):
        config = small_config(tmp_path / name)
        write_log(config, random_log(seed=4), SCHEMA, *random_catalogue(seed=4))
        run_through(config, "catalogue_counts")
        _, chunks = read_chunks(config)
        fingerprints.append([Path(path).read_bytes() for c in chunks["item"] for path in (c.values_path, c.codes_path)])
    assert fingerprints[0] == fingerprints[1]


def test_codes_are_read_as_they_were_written(tmp_path):
    config = small_config(tmp_path)
    items, users = random_catalogue(seed=5)
    write_log(config, random_log(seed=5), SCHEMA, items, users)
    run_through(config, "catalogue_counts")
    ((chunk,), kinds) = read_chunks(config)[1]["item"], {"genre": "categorical", "tags": "multi", "year": "numeric"}
    for sets, (name, kind) in zip(read_sets(chunk.codes_path), kinds.items(), strict=True):
        column = pa.chunked_array([pa.array(items[name], pa.list_(pa.string()) if kind == "multi" else None)])
        expected = ValueSets.of(column, kind)
        assert (sets.codes.tolist(), sets.size) == (expected.codes.tolist(), expected.size)
        assert sets.lengths.tolist() == expected.lengths.tolist()
