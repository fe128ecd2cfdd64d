"""beam_jobs/mutual_information.py against brute force over value sets, and against known joints."""

import itertools
import json
import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, small_parts, write_log
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import mutual_information
from beam_jobs.catalogue_counts import ValueSets
from beam_jobs.joint_counts import joint_mass
from beam_jobs.mutual_information import MassSums
from pipeline.catalogue import Vocabularies, item_table
from pipeline.tables import FieldSchema, Schema, Tables

SET = st.sets(st.sampled_from("abcd"), max_size=3)


def brute_force(a: list[set], b: list[set]) -> float:
    """CFM, eq. 4, as written: each row spreads its mass over the pairs of its two value sets."""
    joint, left, right = defaultdict(float), defaultdict(float), defaultdict(float)
    for one, other in zip(a, b, strict=True):
        for x, y in itertools.product(one, other):
            mass = 1 / (len(one) * len(other) * len(a))
            joint[x, y] += mass
            left[x] += mass
            right[y] += mass
    return sum(p * math.log(p / (left[x] * right[y])) for (x, y), p in joint.items())


def entropy(sets: list[set]) -> float:
    mass = defaultdict(float)
    for values in sets:
        for x in values:
            mass[x] += 1 / (len(values) * len(sets))
    return -sum(p * math.log(p) for p in mass.values())


def value_sets(column: np.ndarray) -> list[set]:
    return [set(np.atleast_1d(row).tolist()) - ({0} if np.any(row) else set()) for row in column]


def information(a: list, b: list, outside: int = 0) -> float:
    """The MI of two columns of value sets, and of `outside` rows without values, through the kernels of a chunk."""
    sets = [ValueSets.of(pa.chunked_array([column]), "multi") for column in (a, b)]
    table, size = joint_mass(*sets), sets[1].size
    missing = [each.values.to_pylist().index("") for each in sets]
    keys = table["a"].to_numpy().astype(np.int64) * size + table["b"].to_numpy()
    sums = {(0, 1): MassSums.of(keys, table["mass"].to_numpy(), missing[0] * size + missing[1])}
    for j, each in enumerate(sets):
        sums[j, j] = MassSums.of(np.arange(each.size), each.table()["mass"].to_numpy(), missing[j])
    return mutual_information.information(sums, len(a), outside)[0, 1]


@given(st.lists(st.tuples(SET, SET), min_size=1, max_size=12), st.integers(0, 5))
def test_two_multi_valued_fields_and_items_outside_the_catalogue(rows, outside):
    a, b = (pa.array([list(row[i]) for row in rows], pa.list_(pa.string())) for i in (0, 1))
    expected = brute_force(*([row[i] or {""} for row in rows] + [{""}] * outside for i in (0, 1)))
    assert information(a, b, outside) == pytest.approx(expected, abs=1e-9)


def test_a_known_joint():
    # p(x, y) = [[1/2, 0], [1/4, 1/4]]: MI = H(x) + H(y) - H(x, y) = ln 2 + H(1/4) - 1.5 ln 2.
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    found = information([["a"], ["a"], ["b"], ["b"]], [["c"], ["c"], ["c"], ["d"]])
    assert found == pytest.approx(quarter - 0.5 * math.log(2))


def test_independent_fields_share_nothing_and_equal_ones_everything():
    a, b = [["a"], ["a"], ["b"], ["b"]], [["c"], ["d"], ["c"], ["d"]]
    assert information(a, b) == pytest.approx(0)
    assert information(a, a) == pytest.approx(math.log(2))


@pytest.mark.parametrize("row_group", [1000, 4])
def test_the_whole_job(tmp_path, monkeypatch, row_group):
    small_parts(monkeypatch, row_group)
    config = small_config(tmp_path)
    write_log(config, random_log(seed=11), SCHEMA, *random_catalogue(seed=11))
    artifact = run_through(config, "mutual_information")
    written = json.loads(artifact.file("mutual_information.json").read_text())
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    columns = item_table(Tables.read(config.tables_dir), known).columns
    assert written["fields"] == ["item_id", "genre", "tags", "year"]
    sets = [value_sets(columns[name][1:]) for name in written["fields"]]
    expected = [[entropy(a) if i == j else brute_force(a, b) for j, b in enumerate(sets)] for i, a in enumerate(sets)]
    np.testing.assert_allclose(written["matrix"], expected, atol=1e-9)
    assert artifact.counts["items"] == known.items.size - 1 > 20  # with those outside the catalogue


def test_a_catalogue_without_fields_leaves_the_id(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=11))
    written = json.loads(run_through(config, "mutual_information").file("mutual_information.json").read_text())
    items = Vocabularies.read(config.prepared_dir("vocabularies")).items.size - 1
    assert written == {"fields": ["item_id"], "matrix": [[math.log(items)]]}


def test_a_rerun_writes_identical_files(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=4)
    config = small_config(tmp_path)
    write_log(config, random_log(seed=12), SCHEMA, *random_catalogue(seed=12))
    first = run_through(config, "mutual_information")
    (first.path / "MANIFEST.json").unlink()
    assert mutual_information.run(config).fingerprint == first.fingerprint


def test_rare_values_count_together_as_one(tmp_path):
    config = small_config(tmp_path, prepare={"partitions": 3, "min_value_count": 3})
    items = {"item_id": [f"i{n}" for n in range(8)], "genre": ["a"] * 3 + ["b"] * 3 + ["c", "d"]}
    write_log(config, random_log(seed=11, items=8), Schema((FieldSchema("genre", "categorical"),)), items)
    written = json.loads(run_through(config, "mutual_information").file("mutual_information.json").read_text())
    expected = entropy([{"a"}] * 3 + [{"b"}] * 3 + [{"rare"}] * 2)
    assert written["matrix"][1][1] == pytest.approx(expected)


def test_a_change_of_the_log_alone_counts_nothing_again(tmp_path):
    config = small_config(tmp_path)
    catalogue = random_catalogue(seed=12, items=25)  # all items of the log
    write_log(config, random_log(seed=12), SCHEMA, *catalogue)
    first = run_through(config, "mutual_information")
    write_log(config, random_log(seed=13), SCHEMA, *catalogue)
    assert run_through(config, "mutual_information").manifest == first.manifest


def test_other_items_outside_the_catalogue_count_nothing_again(tmp_path, monkeypatch):
    config = small_config(tmp_path)
    catalogue = random_catalogue(seed=12, items=20)
    write_log(config, random_log(seed=12, items=30), SCHEMA, *catalogue)
    first = run_through(config, "mutual_information")
    write_log(config, random_log(seed=13, items=40), SCHEMA, *catalogue)
    run_through(config, "vocabularies")
    with monkeypatch.context() as counting:
        counting.setattr(mutual_information, "run_pipeline", None)
        moved = mutual_information.run(config)
    (moved.path / "MANIFEST.json").unlink()
    anew = mutual_information.run(config)
    assert anew.counts["items"] > first.counts["items"]
    assert (moved.fingerprint, moved.counts) == (anew.fingerprint, anew.counts)
