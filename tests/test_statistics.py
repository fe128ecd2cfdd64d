"""The bootstrap against drawing users one by one, and the table of variants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import statistics
from pipeline.errors import InputError
from pipeline.metrics import UNRANKED
from pipeline.statistics import (
    Interval,
    Run,
    bootstrap,
    compare,
    format_difference,
    format_figure,
    mean_and_deviation,
)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, np.newaxis]


def test_the_mean_weighs_users_by_their_pairs() -> None:
    (interval,) = bootstrap(column(1, 3), column(1, 4), 50)
    assert interval.mean == pytest.approx(4 / 5)


def test_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).random((4000, 1))
    (interval,) = bootstrap(values, np.ones_like(values), 4000, seed=1)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - error, abs=0.0005)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.0005)


def test_interval_of_a_ratio_matches_drawing_users_one_by_one() -> None:
    random = np.random.default_rng(2)
    sizes = random.integers(1, 9, 40).astype(float)
    sums = random.binomial(sizes.astype(int), 0.3).astype(float)
    drawn = []
    for _ in range(4000):
        users = random.choice(40, 40)
        drawn.append(sums[users].sum() / sizes[users].sum())
    (interval,) = bootstrap(sums[:, np.newaxis], sizes[:, np.newaxis], 4000, seed=3)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_pairs_of_a_user_count_as_one_draw() -> None:
    hits = np.random.default_rng(4).integers(0, 2, (200, 1)).astype(float)
    (single,) = bootstrap(hits, np.ones_like(hits), 500)
    (tenfold,) = bootstrap(10 * hits, np.full_like(hits, 10), 500)
    assert tenfold == single


def test_equal_runs_differ_by_nothing() -> None:
    (interval,) = bootstrap(np.zeros((30, 1)), np.ones((30, 1)), 100)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert not interval.excludes_zero


def test_columns_share_their_draws_whatever_their_number() -> None:
    values = np.random.default_rng(6).random((50, 3))
    together = bootstrap(values, np.ones_like(values), 200, seed=9)
    alone = [bootstrap(values[:, [c]], np.ones((50, 1)), 200, seed=9)[0] for c in range(3)]
    for a, b in zip(together, alone, strict=True):
        assert [a.mean, a.low, a.high] == pytest.approx([b.mean, b.low, b.high])


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).random((20, 1))
    whole = bootstrap(values, np.ones_like(values), 100, seed=1)
    monkeypatch.setattr(statistics, "DRAWS_AT_ONCE", 60)
    (chunked,), (once,) = bootstrap(values, np.ones_like(values), 100, seed=1), whole
    assert [chunked.low, chunked.high] == pytest.approx([once.low, once.high])


def test_a_metric_without_a_pair_has_no_interval() -> None:
    assert bootstrap(np.zeros((3, 1)), np.zeros((3, 1)), 10) == [Interval(None, None, None)]


def test_resamples_without_a_pair_of_the_slice_are_left_out() -> None:
    (interval,) = bootstrap(column(1, 0, 0), column(1, 0, 0), 200)
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=8), st.integers(0, 99))
def test_the_interval_stays_between_the_users(users: list[tuple[int, int]], seed: int) -> None:
    sums, sizes = np.array(users, np.float64).T[:, :, np.newaxis]
    (interval,) = bootstrap(sums, sizes, 50, seed)
    ratios = (sums / sizes)[:, 0]
    assert ratios.min() - 1e-9 <= interval.low <= interval.high <= ratios.max() + 1e-9


def run(ranks: list[int], coverage: float = 0.5) -> Run:
    """Users 1, 1, 2, 3: the first has two targets; the last pair is of an unseen item."""
    return Run(
        users=np.array([1, 1, 2, 3], np.int32),
        targets=np.array([5, 6, 5, 7], np.int32),
        ranks=np.array(ranks, np.int32),
        gaps=np.array([10, 90, 90, 5]),
        deciles=np.array([0, 4, 0, -1], np.int8),
        coverage={10: coverage},
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_compare_gives_means_over_seeds() -> None:
    table = compare({"base": [run([1, 50, 1, 50], 0.2), run([50, 50, 1, 50], 0.4)]}, [10], 10, resamples=50)
    lines = table.splitlines()
    assert cells(lines[0]) == [
        "variant",
        "runs",
        "HIT@10",
        "HIT@10 head",
        "HIT@10 tail",
        "HIT@10 unseen",
        "Recall@10",
        "MAP@10",
        "coverage@10",
    ]
    # HIT .5 and .25; recall (.5 + 1 + 0) / 3 and (0 + 1 + 0) / 3; AP of the first user 1/1 / 2.
    assert cells(lines[2]) == [
        "base",
        "2",
        ".3750 ± .1768",
        ".7500 ± .3536",
        ".0000 ± .0000",
        ".0000 ± .0000",
        ".4167 ± .1179",
        ".4167 ± .1179",
        ".3000 ± .1414",
    ]


def test_compare_pairs_each_variant_with_the_base() -> None:
    worse, better = run([50, 50, 1, UNRANKED]), run([1, 1, 1, 1])
    lines = compare({"base": [worse, worse], "new": [better]}, [10], 10, gap_seconds=60, resamples=300).splitlines()
    header, row = cells(lines[5]), cells(lines[7])
    assert row[0] == "new"
    assert row[header.index("HIT@10")].startswith("+.7500 [")
    assert row[header.index("HIT@10 gap >= 60 s")].startswith("+.5000 [")
    # Everyone the slice has gains one.
    assert row[header.index("HIT@10 tail")] == "**+1.0000 [+1.0000, +1.0000]**"


def test_compare_averages_the_seeds_of_a_variant() -> None:
    low, high = run([50, 50, 50, 50]), run([1, 1, 1, 1])
    lines = compare({"base": [low], "new": [low, high]}, [10], 10, resamples=50).splitlines()
    assert cells(lines[-1])[1] == "**+.5000 [+.5000, +.5000]**"


def test_compare_refuses_runs_on_different_pairs() -> None:
    other = run([1, 1, 1, 1])
    other.targets[0] = 9
    with pytest.raises(InputError, match="different pairs"):
        compare({"base": [run([1, 1, 1, 1])], "new": [other]}, [10], 10)


@pytest.mark.parametrize(
    ("value", "text"), [(0.1402, ".1402"), (1.0, "1.0000"), (-0.5, "-.5000"), (10.25, "10.2500"), (None, "-")]
)
def test_figures_are_written_as_in_the_field(value: float | None, text: str) -> None:
    assert format_figure(value) == text


def test_a_difference_is_bold_when_its_interval_excludes_zero() -> None:
    assert format_difference(Interval(0.0021, -0.0003, 0.0045)) == "+.0021 [-.0003, +.0045]"
    assert format_difference(Interval(-0.2, -0.3, -0.1)) == "**-.2000 [-.3000, -.1000]**"
    assert format_difference(Interval(None, None, None)) == "-"


def test_one_run_has_no_deviation() -> None:
    assert mean_and_deviation([0.5]) == ".5000"
