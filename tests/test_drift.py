"""pipeline/drift.py: formulas against closed forms and scipy, ids against pandas."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from beam_jobs.batch_files import read_batch, write_batches
from pipeline import drift
from pipeline.config import ReportConfig
from pipeline.drift import Line, Sample

COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20).filter(
    lambda pairs: all(map(sum, zip(*pairs, strict=True)))
)


def counted(counts: dict[str, int]) -> pa.Table:
    return pa.table(
        {"value": pa.array(list(counts), pa.string()), "count": pa.array(list(counts.values()), pa.int64())}
    )


# --- divergence ---


@given(COUNTS)
def test_the_divergence_is_the_square_of_scipys_distance(pairs):
    p, q = np.array(pairs).T
    expected = jensenshannon(p, q, base=2) ** 2
    assert drift.jensen_shannon(p, q) == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-12)


@given(COUNTS)
def test_it_is_symmetric_and_of_shares_not_counts(pairs):
    p, q = np.array(pairs).T
    assert drift.jensen_shannon(q, 7 * p) == pytest.approx(drift.jensen_shannon(p, q), abs=1e-12)


@given(COUNTS)
def test_joining_two_values_never_adds_to_it(pairs):
    p, q = np.array(pairs).T
    joined = [np.append(side[2:], side[:2].sum()) for side in (p, q)]
    assert drift.jensen_shannon(*joined) <= drift.jensen_shannon(p, q) + 1e-12


@given(COUNTS)
def test_equal_distributions_have_none(pairs):
    p = np.array(pairs)[:, 0]
    assert drift.jensen_shannon(p, 3 * p) == pytest.approx(0, abs=1e-15)


def test_distributions_that_share_no_value_have_one_bit():
    assert drift.jensen_shannon(np.array([3, 1, 0, 0]), np.array([0, 0, 5, 2])) == 1.0


def test_a_known_value():
    """P = (1, 0), Q = (1/2, 1/2): M = (3/4, 1/4), JSD = H(M) - 1/2."""
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert drift.jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(entropy - 0.5)


# --- chance ---


def test_chance_is_what_theory_expects_of_large_samples():
    """To second order JSD = sum (p - q)^2 / 8m nats, whose mean is (V - 1) (1 / n1 + 1 / n2) / 8."""
    both = np.array([9000, 7000, 5000, 4000, 3000, 2000])
    p = both // 3
    expected = (len(both) - 1) * (1 / p.sum() + 1 / (both - p).sum()) / 8 / math.log(2)
    assert drift.chance_divergence(p, both - p, draws=400) == pytest.approx(expected, rel=0.1)


def test_chance_explains_what_two_samples_of_one_distribution_show():
    random = np.random.default_rng(3)
    shares = random.dirichlet(np.ones(500))
    p, q = random.multinomial(2000, shares), random.multinomial(1500, shares)
    assert drift.jensen_shannon(p, q) == pytest.approx(drift.chance_divergence(p, q), rel=0.1)


def test_chance_is_the_same_in_every_run():
    p, q = np.array([5, 1, 4]), np.array([2, 2, 2])
    assert drift.chance_divergence(p, q) == drift.chance_divergence(p, q)


def test_too_few_events_to_deal_out_have_no_chance():
    assert drift.chance_divergence(np.array([1, 0]), np.array([0, 0])) == 0.0


# --- change and what is new ---


@pytest.mark.parametrize(("now", "before", "expected"), [(150, 100, 0.5), (0, 4, -1.0), (7, 7, 0.0), (3, 0, None)])
def test_relative_change(now, before, expected):
    assert drift.relative_change(now, before) == expected


TABLES = st.dictionaries(st.text("abc", max_size=2), st.integers(0, 9), max_size=6)


@given(TABLES, TABLES)
def test_aligned_counts_are_those_of_the_same_values(a, b):
    p, q = drift.aligned(counted(a), counted(b))
    assert sorted(zip(p.tolist(), q.tolist(), strict=True)) == sorted((a.get(v, 0), b.get(v, 0)) for v in {*a, *b})


@pytest.mark.parametrize(
    ("now", "known", "expected"),
    [
        ({"a": 3, "b": 1}, {"a": 1}, 0.25),
        ({"a": 3, "b": 1}, {"a": 1, "b": 2, "c": 5}, 0.0),
        ({"a": 3}, {"b": 1}, 1.0),
        ({"a": 3}, {"a": 0}, 1.0),
        ({}, {"b": 1}, None),
    ],
)
def test_the_share_of_events_on_new_values(now, known, expected):
    assert drift.new_share(counted(now), counted(known)) == expected


def ids(start: int, stop: int) -> pa.Array:
    return pa.array([f"user {i}" for i in range(start, stop)])


def test_the_share_of_new_ids_is_exact_while_a_sample_holds_all():
    now, before = drift.id_sample(ids(0, 400)), drift.id_sample(ids(100, 900))
    assert drift.new_id_share(now, before) == 0.25


def test_larger_logs_are_compared_as_far_as_both_samples_reach():
    now, before = drift.id_sample(ids(0, 30_000), 2000), drift.id_sample(ids(10_000, 20_000), 2000)
    assert len(now) == len(before) == 2000
    assert drift.new_id_share(now, before, 2000) == pytest.approx(2 / 3, abs=0.03)
    assert drift.new_id_share(now, now, 2000) == 0.0


def test_a_sample_does_not_depend_on_the_order_of_ids():
    shuffled = ids(0, 100).take(pa.array(np.random.default_rng(1).permutation(100)))
    assert np.array_equal(drift.id_sample(shuffled, 10), drift.id_sample(ids(0, 100), 10))


def test_no_ids_have_no_share():
    assert drift.new_id_share(drift.id_sample(ids(0, 0)), drift.id_sample(ids(0, 3))) is None


# --- events ---


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Two parts of coded events, the second with a user and items of its own."""
    random = np.random.default_rng(5)
    paths = []
    for number, (users, items) in enumerate([(8, 12), (9, 14)]):
        log = {
            "user_id": pa.array([f"u{i}" for i in random.integers(0, users, 100)]).dictionary_encode(),
            "item_id": pa.array([f"i{i}" for i in random.integers(0, items, 100)]).dictionary_encode(),
            "timestamp": np.arange(100),
        }
        paths.append(tmp_path / f"events-{number}.arrow")
        write_batches(str(paths[-1]), pa.table(log).schema, [pa.table(log)], {})
    return paths


def test_ids_are_counted_over_parts(parts):
    log = pd.concat(read_batch(path).to_pandas().astype({"user_id": str, "item_id": str}) for path in parts)
    found = drift.count_ids(parts)
    assert found.events == 200
    for table, name in ((found.users, "user_id"), (found.items, "item_id")):
        assert dict(zip(*table.to_pydict().values(), strict=True)) == log[name].value_counts().to_dict()
        assert table["count"].to_pylist() == sorted(table["count"].to_pylist(), reverse=True)


def test_ids_of_no_part_are_none():
    found = drift.count_ids([])
    assert (found.events, len(found.users), len(found.items)) == (0, 0, 0)


def test_seen_are_the_ids_that_other_parts_have_too(parts):
    found = drift.count_ids(parts[1:])
    before = read_batch(parts[0]).to_pandas()
    users, items = drift.seen(found, parts[:1])
    assert users.tolist() == [user in set(before["user_id"]) for user in found.users["value"].to_pylist()]
    assert items.tolist() == [item in set(before["item_id"]) for item in found.items["value"].to_pylist()]
    assert not all(users)


# --- all of it ---

SAMPLE = Sample(100, 10, counted({"a": 60, "b": 40}), {"item.genre": counted({"x": 100})})


def test_a_log_does_not_drift_from_itself():
    lines = drift.compare(SAMPLE, SAMPLE, 0.0, 0.0, chance=True)
    assert [line.what for line in lines] == [
        "events",
        "users",
        "items",
        "popularity of items",
        "item field genre",
        "events on new items",
        "new users",
    ]
    assert {line.value for line in lines} == {0.0}
    assert not any(line.exceeds(ReportConfig()) for line in lines)


def test_another_log_drifts_as_far_as_can_be():
    other = Sample(50, 5, counted({"c": 50}), {"item.genre": counted({"y": 50}), "item.new": counted({"z": 1})})
    lines = {line.what: line for line in drift.compare(other, SAMPLE, 1.0, 1.0, chance=False)}
    assert {what: line.value for what, line in lines.items()} == {
        "events": -0.5,
        "users": -0.5,
        "items": -0.5,
        "popularity of items": 1.0,
        "item field genre": 1.0,
        "events on new items": 1.0,
        "new users": 1.0,
    }
    assert (lines["events"].before, lines["events"].now) == (100, 50)
    assert lines["popularity of items"].chance is None


def test_without_events_there_is_no_divergence():
    nothing = Sample(0, 0, counted({}), {"item.genre": counted({})})
    lines = drift.compare(nothing, SAMPLE, None, None, chance=True)
    assert [line.kind for line in lines] == ["change"] * 3 + ["new"] * 2


@pytest.mark.parametrize(
    ("line", "exceeds"),
    [
        (Line("events", "change", 0.5), False),
        (Line("events", "change", -0.51), True),
        (Line("events", "change", None), False),
        (Line("genre", "divergence", 0.11), True),
        (Line("genre", "divergence", 0.45, chance=0.4), False),
        (Line("genre", "divergence", 0.55, chance=0.4), True),
        (Line("new users", "new", 0.5), False),
        (Line("new users", "new", 0.51), True),
    ],
)
def test_what_is_beyond_the_limits(line, exceeds):
    assert line.exceeds(ReportConfig()) is exceeds
