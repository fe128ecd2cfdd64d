"""The evaluation as figures (JSON), as a page (Markdown) and as plots (PNG)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import plots
from pipeline.config import Config
from pipeline.evaluation_set import EvaluationSet, Phase, cold_start_slices, slices
from pipeline.markdown import table
from pipeline.metrics import DECILES, average_precision, coverage, hits, recall, sum_by_user
from pipeline.ranking import Ranking
from pipeline.statistics import Interval, bootstrap, format_difference, format_figure

Rankings = dict[str, Ranking]
TITLES = {
    "trained": "Items seen in training",
    "catalogue": "The whole catalogue, items never seen in training included",
    "new_items": "Items never seen in training, among themselves",
    "cold_users": "Users without a history",
}


def build(
    config: Config,
    phase: Phase,
    labels: dict[str, str],
    parts: dict[str, EvaluationSet],
    rankings: dict[str, Rankings],
) -> dict[str, Any]:
    """Every figure of every scorer on every part, as JSON values (numbers by N have N as a string).

    Args: labels: what to call each scorer; `model` is among them. rankings: by part, by scorer.
    """
    at = sorted({*config.evaluate.at, config.train.monitor})
    gap = config.evaluate.gap_seconds
    figures = {
        part: {
            **describe(evaluation_set, gap),
            "scorers": {n: measure(evaluation_set, r, at, gap) for n, r in rankings[part].items()},
        }
        for part, evaluation_set in parts.items()
    }
    for part, evaluation_set in parts.items():
        add_intervals(figures[part], evaluation_set, rankings[part], at, config.evaluate.bootstrap)
    return {
        "name": config.name,
        "phase": phase,
        "split": config.split.model_dump(),
        "at": at,
        "headline": config.train.monitor,
        "labels": labels,
        "parts": figures,
    }


def describe(evaluation_set: EvaluationSet, gap_seconds: int | None) -> dict[str, Any]:
    """The size of a part and of its slices."""
    named = slices(evaluation_set.deciles, evaluation_set.gaps, gap_seconds)
    return {
        "users": len(evaluation_set),
        "pairs": len(evaluation_set.target_items),
        "candidates": len(evaluation_set.candidates),
        "targets_not_candidates": int(np.count_nonzero(evaluation_set.positions[evaluation_set.target_items] < 0)),
        "targets_already_seen": int(np.count_nonzero(evaluation_set.target_seen)),
        "repeated_events_merged": evaluation_set.duplicates,
        "slices": {name: int(np.count_nonzero(mask)) for name, mask in named.items()},
        "cold_start": {name: int(np.count_nonzero(mask)) for name, mask in cold_start_slices(evaluation_set).items()},
        "deciles": [int(np.count_nonzero(evaluation_set.deciles == d)) for d in range(DECILES)],
    }


def measure(evaluation_set: EvaluationSet, ranking: Ranking, at: list[int], gap_seconds: int | None) -> dict[str, Any]:
    """All metrics of one scorer on one part; a slice without pairs has None."""
    ranks, offsets = ranking.ranks, evaluation_set.target_offsets
    named = slices(evaluation_set.deciles, evaluation_set.gaps, gap_seconds)
    known = cold_start_slices(evaluation_set)
    return {
        "hit": {str(n): float(hits(ranks, n).mean()) for n in at},
        "recall": {str(n): float(recall(ranks, offsets, n).mean()) for n in at},
        "map": {str(n): float(average_precision(ranks, offsets, n).mean()) for n in at},
        "coverage": {str(n): coverage(ranking.best_positions, n) for n in at},
        "slices": {name: {str(n): _mean(hits(ranks[mask], n)) for n in at} for name, mask in named.items()},
        "cold_start": {name: {str(n): _mean(hits(ranks[mask], n)) for n in at} for name, mask in known.items()},
        "deciles": {str(n): [_mean(hits(ranks[evaluation_set.deciles == d], n)) for d in range(DECILES)] for n in at},
    }


def add_intervals(
    figures: dict[str, Any], evaluation_set: EvaluationSet, rankings: Rankings, at: list[int], resamples: int
) -> None:
    """Add to each scorer of a part the 95 % interval of HIT@N, and that of the model's lead over it."""
    offsets = evaluation_set.target_offsets
    sums = {n: np.stack([sum_by_user(hits(r.ranks, k), offsets) for k in at], axis=1) for n, r in rankings.items()}
    leads = {name: sums["model"] - sums[name] for name in rankings if name != "model"}
    columns = np.concatenate([*sums.values(), *leads.values()], axis=1)  # (U, M)
    sizes = np.broadcast_to(np.diff(offsets).astype(np.float64)[:, np.newaxis], columns.shape)
    intervals = iter(bootstrap(columns, sizes, resamples))
    for key, names in (("hit_interval", sums), ("model_lead", leads)):
        for name in names:
            figures["scorers"][name][key] = {str(n): vars(next(intervals)) for n in at}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def write(folder: Path, figures: dict[str, Any], rankings: dict[str, Rankings]) -> None:
    """Write report.json, report.md and the plots into `folder`."""
    (folder / "report.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    labels, headline = figures["labels"], figures["headline"]
    plots.hits_over_n(folder / "hit_curve.png", labels, rankings["trained"], figures["at"])
    plots.hits_over_popularity(folder / "deciles.png", labels, figures["parts"]["trained"], headline)
    (folder / "report.md").write_text(markdown(figures), encoding="utf-8")


def markdown(figures: dict[str, Any]) -> str:
    """The report as a page."""
    labels, at, headline = figures["labels"], figures["at"], figures["headline"]
    split = {name: value for name, value in figures["split"].items() if value is not None}
    lines = [
        f"# {figures['name']} on the {figures['phase']} part",
        "",
        f"Split: {', '.join(f'{name} {value}' for name, value in split.items())}.",
        "Every user is ranked against every candidate; items the user has seen are removed.",
        "HIT@N is the average over (user, target) pairs, Recall@N and MAP@N over users.",
        "Head: the 10 % most frequent train items; tail: the other train items; unseen: no train event.",
    ]
    for part, content in figures["parts"].items():
        lines += ["", f"## {TITLES[part]}", "", _sizes(content), ""]
        lines += table(_main_header(content, at, headline), _main_rows(content, labels, at, headline))
        lines += ["", f"HIT@{headline} by what was known (clicks in training, events before; pairs in brackets):", ""]
        lines += table(["", *_counted(content["cold_start"])], _cold_start_rows(content, labels, headline))
        lines += ["", "Averages over users:", ""]
        lines += table(_user_header(at), _user_rows(content, labels, at))
        lines += [
            "",
            f"{figures['name']} minus each baseline, HIT@N (95 % interval, paired, over users; bold: without 0):",
            "",
        ]
        lines += table(["", *(f"HIT@{n}" for n in at)], _lead_rows(content, labels, at))
        if part == "trained":
            lines += ["", "![HIT@N over N](hit_curve.png)", "", "![HIT by popularity of the target](deciles.png)"]
    return "\n".join(lines) + "\n"


def _sizes(content: dict[str, Any]) -> str:
    sizes = ", ".join(f"{name} {count:,}" for name, count in content["slices"].items())
    text = (
        f"{content['users']:,} users, {content['pairs']:,} pairs ({sizes}), {content['candidates']:,} candidates. "
        f"{content['targets_not_candidates']:,} targets are no candidates and so misses"
    )
    if content["targets_already_seen"]:
        text += f"; so are {content['targets_already_seen']:,} that the user had already seen"
    if content["repeated_events_merged"]:
        text += f"; {content['repeated_events_merged']:,} repeated events count once"
    return text + "."


def _shown_slices(content: dict[str, Any]) -> list[str]:
    """The slices that have a pair and that a list can hit: not `unseen` when unseen items are no candidates."""
    out_of_reach = content["slices"]["unseen"] <= content["targets_not_candidates"]
    return [name for name, count in content["slices"].items() if count and not (name == "unseen" and out_of_reach)]


def _main_header(content: dict[str, Any], at: list[int], headline: int) -> list[str]:
    named = [f"HIT@{headline} {name}" for name in _shown_slices(content)]
    return ["", *(f"HIT@{n}" for n in at), f"coverage@{headline}", *named]


def _main_rows(content: dict[str, Any], labels: dict[str, str], at: list[int], headline: int) -> Iterable[list[str]]:
    for name, scorer in content["scorers"].items():
        sliced = [scorer["slices"][s][str(headline)] for s in _shown_slices(content)]
        values = [*(scorer["hit"][str(n)] for n in at), scorer["coverage"][str(headline)], *sliced]
        yield [labels[name], *map(format_figure, values)]


def _counted(counts: dict[str, int]) -> list[str]:
    return [f"{name} ({count:,})" for name, count in counts.items()]


def _cold_start_rows(content: dict[str, Any], labels: dict[str, str], headline: int) -> Iterable[list[str]]:
    for name, scorer in content["scorers"].items():
        values = [values[str(headline)] for values in scorer["cold_start"].values()]
        yield [labels[name], *map(format_figure, values)]


def _user_header(at: list[int]) -> list[str]:
    return ["", *(f"Recall@{n}" for n in at), *(f"MAP@{n}" for n in at)]


def _user_rows(content: dict[str, Any], labels: dict[str, str], at: list[int]) -> Iterable[list[str]]:
    for name, scorer in content["scorers"].items():
        yield [labels[name], *(format_figure(scorer[m][str(n)]) for m in ("recall", "map") for n in at)]


def _lead_rows(content: dict[str, Any], labels: dict[str, str], at: list[int]) -> Iterable[list[str]]:
    for name, scorer in content["scorers"].items():
        if "model_lead" in scorer:
            yield [labels[name], *(format_difference(Interval(**scorer["model_lead"][str(n)])) for n in at)]
