"""How sure a figure is: the bootstrap over users, and runs of several seeds against a base."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts import open_artifact
from pipeline.errors import InputError
from pipeline.evaluation_set import slices
from pipeline.metrics import UNRANKED, average_precision, hits, recall, sum_by_user
from pipeline.progress import bar
from pipeline.storage import Location

DRAWS_AT_ONCE = 1 << 22
_LEADING_ZERO = re.compile(r"(?<!\d)0\.")


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds of its 95 % interval; all None when it has no pair to average over."""

    mean: float | None
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def bootstrap(
    sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """Percentile intervals of M ratios of sums, when whole users are drawn with replacement.

    A user's pairs stay together, since they are not independent; all M ratios see the same draws, so that the
    difference of two runs is a paired one: give the difference of their sums.

    Args:
      sums: float64 [U, M], each user's sum of a metric over the pairs. sizes: float64 [U, M], how many pairs.
        A mean over users has sizes of 1.
    Returns: M intervals of sum(sums) / sum(sizes).
    """
    totals = sizes.sum(axis=0)
    drawn = np.concatenate([_ratios(w @ sums, w @ sizes) for w in _multiplicities(len(sums), resamples, seed)])
    tail = (1 - confidence) / 2
    intervals = []
    for column in range(sums.shape[1]):
        if not totals[column]:
            intervals.append(Interval(None, None, None))
            continue
        low, high = np.nanquantile(drawn[:, column], (tail, 1 - tail))
        intervals.append(Interval(float(sums[:, column].sum() / totals[column]), float(low), float(high)))
    return intervals


def _ratios(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)


def _multiplicities(users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is drawn, float64 [b, U]: multinomial rows, as counts of uniform draws."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWS_AT_ONCE // users)
    for start in bar(range(0, resamples, step), desc="bootstrap", delay=1):
        rows = min(step, resamples - start)
        draws = rng.integers(0, users, (rows, users)) + users * np.arange(rows)[:, np.newaxis]
        yield np.bincount(draws.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


@dataclass(frozen=True)
class Run:
    """One scorer's ranks on the pairs of one evaluation, user after user, with what the slices need.

    users, targets, ranks: int32 [T]; gaps: int64 [T]; deciles: int8 [T]. coverage: by N.
    """

    users: np.ndarray
    targets: np.ndarray
    ranks: np.ndarray
    gaps: np.ndarray
    deciles: np.ndarray
    coverage: dict[int, float]

    @classmethod
    def read(cls, path: Location | str, scorer: str = "model") -> "Run":
        """Open an evaluation artefact. Raises ArtifactError, or InputError when it has no such scorer."""
        artifact = open_artifact(path, "evaluation", 2)
        scorers = json.loads(artifact.file("report.json").read_text(encoding="utf-8"))["parts"]["trained"]["scorers"]
        if scorer not in scorers:
            raise InputError(f"{path} has no scorer {scorer!r}; it holds {sorted(scorers)}")
        rows = pq.read_table(artifact.file("per_user.parquet"), filters=[("scorer", "==", scorer)])
        return cls(
            users=rows["user"].to_numpy(),
            targets=rows["target"].to_numpy(),
            ranks=pc.fill_null(rows["rank"], UNRANKED).to_numpy(),
            gaps=rows["gap"].to_numpy(),
            deciles=rows["decile"].to_numpy(),
            coverage={int(n): share for n, share in scorers[scorer]["coverage"].items()},
        )

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [U + 1]: where each user's pairs begin."""
        starts = np.flatnonzero(np.diff(self.users, prepend=-1))
        return np.append(starts, len(self.users))


def compare(
    variants: dict[str, list[Run]],
    at: Sequence[int],
    headline: int,
    gap_seconds: int | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> str:
    """Variants against the first of them, the base, as Markdown.

    One table has the mean and the standard deviation over seeds (runs) of each metric, the other the difference from
    the base with its 95 % interval: each user's results are averaged over the seeds, then users are resampled.

    Args:
      at: N of HIT@N. headline: N of Recall, MAP, coverage and the slices.
    Raises InputError when the runs were not evaluated on the same pairs.
    """
    runs = [run for each in variants.values() for run in each]
    if not all(np.array_equal(run.users, runs[0].users) for run in runs) or not all(
        np.array_equal(run.targets, runs[0].targets) for run in runs
    ):
        raise InputError("the runs were evaluated on different pairs. Cure: evaluate them on the same tables and split")
    columns = {name: [_columns(run, at, headline, gap_seconds) for run in each] for name, each in variants.items()}
    covered = {name: [run.coverage[headline] for run in each] for name, each in variants.items()}
    return "\n".join([*_means(columns, covered, headline), "", *_differences(columns, resamples, seed)])


Columns = dict[str, tuple[np.ndarray, np.ndarray]]
"""Metric -> (sums [U], sizes [U]); see `bootstrap`."""


def _columns(run: Run, at: Sequence[int], headline: int, gap_seconds: int | None) -> Columns:
    everything = np.ones(len(run.ranks))
    masks = {f"HIT@{n}": (n, everything) for n in at}
    for name, mask in slices(run.deciles, run.gaps, gap_seconds).items():
        masks[f"HIT@{headline} {name}"] = (headline, mask.astype(np.float64))
    columns = {
        name: (sum_by_user(hits(run.ranks, n) * mask, run.offsets), sum_by_user(mask, run.offsets))
        for name, (n, mask) in masks.items()
        if mask.any()
    }
    ones = np.ones(len(run.offsets) - 1)
    columns[f"Recall@{headline}"] = (recall(run.ranks, run.offsets, headline), ones)
    columns[f"MAP@{headline}"] = (average_precision(run.ranks, run.offsets, headline), ones)
    return columns


def _means(columns: dict[str, list[Columns]], covered: dict[str, list[float]], headline: int) -> list[str]:
    metrics = list(next(iter(columns.values()))[0])
    lines = [_row("variant", "runs", *metrics, f"coverage@{headline}"), _row(*["---"] * (len(metrics) + 3))]
    for name, runs in columns.items():
        values = [[run[m][0].sum() / run[m][1].sum() for run in runs] for m in metrics]
        lines.append(_row(name, str(len(runs)), *(mean_and_deviation(v) for v in [*values, covered[name]])))
    return lines


def _differences(columns: dict[str, list[Columns]], resamples: int, seed: int) -> list[str]:
    (base, base_runs), *others = columns.items()
    metrics = list(base_runs[0])
    sizes = np.stack([base_runs[0][m][1] for m in metrics], axis=1)  # (U, M)
    lines = [_row(f"against {base}", *metrics), _row(*["---"] * (len(metrics) + 1))]
    for name, runs in others:
        sums = _over_seeds(runs, metrics) - _over_seeds(base_runs, metrics)
        lines.append(_row(name, *(format_difference(i) for i in bootstrap(sums, sizes, resamples, seed))))
    return lines


def _over_seeds(runs: list[Columns], metrics: list[str]) -> np.ndarray:
    """Each user's sums, averaged over the runs: float64 [U, M]."""
    return np.mean([np.stack([run[m][0] for m in metrics], axis=1) for run in runs], axis=0)


def mean_and_deviation(values: Sequence[float]) -> str:
    """`.1402 ± .0012`, the deviation with n - 1; without it for a single run."""
    mean = format_figure(float(np.mean(values)))
    return mean if len(values) < 2 else f"{mean} ± {format_figure(float(np.std(values, ddof=1)))}"


def format_figure(value: float | None, digits: int = 4) -> str:
    """`.1402`: without the leading zero, as in the field's tables; a dash for None."""
    return "-" if value is None else _LEADING_ZERO.sub(".", f"{value:.{digits}f}")


def format_difference(interval: Interval) -> str:
    """`+.0021 [-.0003, +.0045]`, in bold when the interval excludes 0."""
    if interval.mean is None:
        return "-"
    mean, low, high = (
        _LEADING_ZERO.sub(".", f"{value:+.4f}") for value in (interval.mean, interval.low, interval.high)
    )
    text = f"{mean} [{low}, {high}]"
    return f"**{text}**" if interval.excludes_zero else text


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
