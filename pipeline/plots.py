"""The plots of a report, drawn without pyplot: no display, no state shared between figures."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from pipeline.metrics import DECILES, hit_curve
from pipeline.ranking import Ranking

# From Okabe and Ito's colours, which people with any colour vision can tell apart; the first is the model's.
COLOURS = ["#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"]
INK, FAINT = "#333333", "#E4E4E4"


def hits_over_n(path: Path, labels: dict[str, str], rankings: dict[str, Ranking], at: list[int]) -> None:
    """HIT@N for every N up to the largest of `at`, a line per scorer."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    depth = max(at)
    for place, (name, ranking) in enumerate(rankings.items()):
        axes.plot(np.arange(1, depth + 1), hit_curve(ranking.ranks, depth), label=labels[name], **_line(place, name))
    axes.set_xscale("log")
    axes.set_xlim(1, max(2, depth))
    axes.set_ylim(bottom=0)
    ticks = sorted({1, *at})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("N, the length of the list")
    dress(axes, "HIT@N: pairs whose target is among the first N")
    figure.legend(loc="outside upper left", frameon=False, ncols=2, labelcolor=INK)
    figure.savefig(path, dpi=150)


def hits_over_popularity(path: Path, labels: dict[str, str], content: dict[str, Any], n: int) -> None:
    """HIT@n by the popularity decile of the target, above the number of pairs in each decile.

    Args: content: the figures of one part, see `report.describe` and `report.measure`.
    """
    figure = Figure(figsize=(7, 5.4), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for place, (name, scorer) in enumerate(content["scorers"].items()):
        values = [np.nan if value is None else value for value in scorer["deciles"][str(n)]]
        style = _line(place, name)
        axes.plot(range(DECILES), values, label=labels[name], marker="o", markersize=4, clip_on=False, **style)
    axes.set_ylim(bottom=0)
    dress(axes, f"HIT@{n} by the popularity of the target")
    bars = below.bar(range(DECILES), content["deciles"], color="#BBBBBB", width=0.7)
    below.bar_label(bars, fmt="{:,.0f}", fontsize=8, color=INK, padding=2)
    below.set_ylim(top=max(1, *content["deciles"]) * 1.3)
    below.set_yticks([])
    below.set_xticks(range(DECILES), ["head\ntop 10 %", *(f"{10 * d}-{10 * d + 10} %" for d in range(1, DECILES))])
    below.set_xlabel("train items, most frequent first")
    dress(below, "Pairs", percent=False)
    below.tick_params(axis="x", labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=2, labelcolor=INK)
    figure.savefig(path, dpi=150)


def _line(place: int, name: str) -> dict[str, Any]:
    """The model's line is the thickest; every other one is dashed, so that lines which coincide both show."""
    style = {"color": COLOURS[place % len(COLOURS)], "linestyle": ("-", (0, (4, 2)))[place % 2]}
    if name == "model":
        return style | {"linewidth": 2.8, "zorder": 4}
    return style | {"linewidth": 1.6, "zorder": 2 + place % 2}


def dress(axes: Axes, title: str, percent: bool = True) -> None:
    """The look that all plots share; `percent`: the y axis is a share, with lines to read it by."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#AAAAAA")
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    if percent:
        axes.grid(axis="y", color=FAINT)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
