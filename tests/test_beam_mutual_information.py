"""beam_jobs/mutual_information.py against brute force over value sets, and against known joints."""

import itertools
import json
import math
from collections import defaultdict

import numpy as np
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, small_config, small_parts, write_log
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import mutual_information, vocabularies
from pipeline.catalogue import Vocabularies, item_table
from pipeline.tables import Tables

SETS = st.lists(st.lists(st.integers(1, 4), max_size=3, unique=True), min_size=1, max_size=12)


def padded(sets: list[list[int]]) -> np.ndarray:
    return np.array([values + [0] * (3 - len(values)) for values in sets], np.int32)


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


@given(st.lists(st.tuples(*[st.lists(st.integers(1, 4), max_size=3, unique=True)] * 2), min_size=1, max_size=12))
def test_two_multi_valued_fields(rows):
    a, b = (padded([row[i] for row in rows]) for i in (0, 1))
    keys, mass = mutual_information.joint_mass(a, b, size_b=5)
    assert mass.sum() == pytest.approx(len(rows))
    expected = brute_force(value_sets(a), value_sets(b))
    assert mutual_information.mutual_information(keys, mass, size_b=5) == pytest.approx(expected, abs=1e-9)


def test_a_known_joint():
    # p(x, y) = [[1/2, 0], [1/4, 1/4]]: MI = H(x) + H(y) - H(x, y) = ln 2 + H(1/4) - 1.5 ln 2.
    a, b = np.array([1, 1, 2, 2], np.int32), np.array([1, 1, 1, 2], np.int32)
    keys, mass = mutual_information.joint_mass(a, b, size_b=3)
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert mutual_information.mutual_information(keys, mass, size_b=3) == pytest.approx(quarter - 0.5 * math.log(2))


def test_independent_fields_share_nothing_and_equal_ones_everything():
    a, b = np.array([1, 1, 2, 2], np.int32), np.array([1, 2, 1, 2], np.int32)
    assert mutual_information.mutual_information(*mutual_information.joint_mass(a, b, 3), 3) == pytest.approx(0)
    assert mutual_information.mutual_information(*mutual_information.joint_mass(a, a, 3), 3) == pytest.approx(
        math.log(2)
    )


@given(SETS, st.integers(1, 11))
def test_slices_of_the_corpus_add_up(sets, at):
    columns = [padded(sets), padded(sets[::-1])]

    def total(parts: list[list[np.ndarray]]) -> dict:
        sums: dict = defaultdict(float)
        for part in parts:
            for i, j, table in mutual_information.corpus_masses(part, [5, 5]):
                for key, mass in zip(table["key"].to_pylist(), table["mass"].to_pylist(), strict=True):
                    sums[i, j, key] += mass
        return sums

    assert total([[c[:at] for c in columns], [c[at:] for c in columns]]) == pytest.approx(total([columns]))


@pytest.mark.parametrize("row_group", [1000, 4])
def test_the_whole_job(tmp_path, monkeypatch, row_group):
    small_parts(monkeypatch, row_group)
    config = small_config(tmp_path)
    write_log(config, random_log(seed=11), SCHEMA, *random_catalogue(seed=11))
    vocabularies.run(config)
    artifact = mutual_information.run(config)
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
    vocabularies.run(config)
    written = json.loads(mutual_information.run(config).file("mutual_information.json").read_text())
    items = Vocabularies.read(config.prepared_dir("vocabularies")).items.size - 1
    assert written == {"fields": ["item_id"], "matrix": [[math.log(items)]]}


def test_a_rerun_writes_identical_files(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=4)
    config = small_config(tmp_path)
    write_log(config, random_log(seed=12), SCHEMA, *random_catalogue(seed=12))
    vocabularies.run(config)
    first = mutual_information.run(config)
    (first.path / "MANIFEST.json").unlink()
    assert mutual_information.run(config).fingerprint == first.fingerprint
