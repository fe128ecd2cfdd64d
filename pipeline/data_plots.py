"""The plots of the data report, in the style of pipeline/plots.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from pipeline.data_warnings import share
from pipeline.plots import COLOURS, FAINT, INK, dress

MARKED_DAYS = 62
SMOOTH_FROM, WINDOW = 120, 28
"""More days than this also get their mean over a window of days, which is what an eye can follow."""
MOST_EDGES = 14
"""Numbers that fit side by side below a histogram."""
NUMBERED_FIELDS = 16
"""A heat map of more fields has no room for numbers."""
BLUE, PALE, SAND = COLOURS[0], "#8DBFE0", "#FCF3DE"
HEAT = LinearSegmentedColormap.from_list("heat", ["#F4F8FB", "#9CC7E3", BLUE, "#08306B"]).with_extremes(bad="#EEEEEE")


def write(folder: Path, figures: dict[str, Any]) -> list[str]:
    """Write the plots for which there are figures, into `folder`; returns their file names."""
    plots: dict[str, tuple[Callable[[Path, Any], None], Any]] = {
        "events.png": (events_a_day, figures["events_a_day"]),
        "popularity.png": (popularity, (figures["popularity"] or {}).get("curve") and figures["popularity"]),
        "histories.png": (spreads, _spreads(figures)),
        "mutual_information.png": (heat_map, figures["mutual_information"]),
    }
    for name, (draw, content) in plots.items():
        if content:
            draw(folder / name, content)
    return [name for name, (_, content) in plots.items() if content]


def events_a_day(path: Path, days: dict[str, int]) -> None:
    """Events of each date, days without any included; their moving mean where there are many days."""
    known = np.array(list(days), "datetime64[D]")
    dates = np.arange(known.min(), known.max() + 1)
    counts = np.zeros(len(dates), np.int64)
    counts[(known - known.min()).astype(np.int64)] = list(days.values())
    figure, axes = _figure(7, 3.4)
    smooth = len(counts) > SMOOTH_FROM
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(counts) <= MARKED_DAYS else {}
    style: dict[str, Any] = {"color": PALE, "linewidth": 0.6} if smooth else {"color": BLUE, "linewidth": 1.8, **marker}
    axes.plot(dates, counts, label="of the day", **style)
    if smooth:
        mean = np.convolve(counts, np.ones(WINDOW), "valid") / WINDOW
        axes.plot(dates[WINDOW - 1 :], mean, color=BLUE, linewidth=1.8, label=f"mean of {WINDOW} days")
        axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), frameon=False, ncols=2, labelcolor=INK, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.grid(axis="y", color=FAINT)
    dress(axes, "Events a day (UTC)", percent=False)
    figure.savefig(path, dpi=150)


def popularity(path: Path, found: dict[str, Any]) -> None:
    """Train events of each item by its rank, log-log, with the head apart from the tail."""
    ranks, events = np.array(found["curve"]).T
    figure, axes = _figure(7, 4.2)
    head, share_of_head = found["head_items"], found["head_share"]
    edge = np.sqrt(head * (head + 1))  # between the last rank of the head and the first of the tail
    for name, span, items, part, colour in (
        ("head", (0.8, edge), head, share_of_head, SAND),
        ("tail", (edge, ranks[-1] * 1.25), found["trained"] - head, 1 - share_of_head, "#FFFFFF"),
    ):
        told = f"{name}: {items:,} items, {share(part)} of events"
        axes.axvspan(*span, facecolor=colour, edgecolor="#CCCCCC", linewidth=0.5, label=told)
    axes.plot(ranks, events, color=BLUE, linewidth=2.4, solid_capstyle="round")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8, ranks[-1] * 1.25)
    axes.set_ylim(0.8, events[0] * 1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_thousands))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("rank of the item, most events first")
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, fontsize=9)
    axes.grid(color=FAINT)
    dress(axes, "Train events of an item", percent=False)
    figure.savefig(path, dpi=150)


def spreads(path: Path, found: dict[str, dict[str, Any]]) -> None:
    """A bar chart by title: how many have each length, in bins that double."""
    figure = Figure(figsize=(7, 3.2 * len(found)), layout="constrained")
    for axes, (title, content) in zip(np.atleast_1d(figure.subplots(len(found), 1)), found.items(), strict=True):
        counts = [b["count"] for b in content["bins"]]
        bars = axes.bar(np.arange(len(counts)) + 0.5, counts, color=BLUE, width=0.92)
        axes.bar_label(bars, _percents(counts), fontsize=8, color=INK, padding=2)
        edges = [b["first"] for b in content["bins"]] + [content["bins"][-1]["last"] + 1]
        step = -(-len(edges) // MOST_EDGES)
        names = [f"{n:,}" if n < 10_000 else f"{n / 1000:,.0f}k" for n in edges[::step]]
        axes.set_xticks(range(0, len(edges), step), names)
        axes.set_xlim(-0.1, max(len(counts), 6) + 0.1)
        axes.set_ylim(top=max(counts) * 1.14)
        axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.set_xlabel(content["unit"])
        axes.grid(axis="y", color=FAINT)
        middle = f"median {content['median']:,}, mean {content['mean']:,.1f}, 90 % up to {content['p90']:,}"
        dress(axes, f"{title} ({middle})", percent=False)
    figure.savefig(path, dpi=150)


def heat_map(path: Path, found: dict[str, Any]) -> None:
    """The matrix of mutual information: in nats, and as the colour its share of the smaller of both entropies, the
    most that it could be. The diagonal has the entropies H and no colour."""
    names, matrix = [_readable(name) for name in found["fields"]], np.array(found["matrix"])
    size, entropies = len(names), np.diag(matrix)
    shares = matrix / np.maximum(np.minimum(entropies[:, np.newaxis], entropies), 1e-9)
    side = float(np.clip(1.8 + 0.8 * size, 3.4, 12.0))
    figure, axes = _figure(side + 1, side)
    image = axes.imshow(np.ma.masked_array(shares, np.eye(size, dtype=bool)), cmap=HEAT, vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape) if size <= NUMBERED_FIELDS else ():
        value, part = float(matrix[row, column]), float(shares[row, column])
        told = f"H {value:.2f}" if row == column else f"{value:.2f}\n{share(part)}"
        colour = "white" if row != column and part > 0.5 else INK
        axes.text(column, row, told, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(size), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, format=PercentFormatter(1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, length=0, labelsize=8)
    bar.set_label("share of the smaller entropy", color=INK, fontsize=9)
    dress(axes, "Mutual information of item fields, nats", percent=False)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


def _spreads(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    sessions = figures["sessions"] or {}
    both = (
        ("Users by their events", figures["histories"], "events of a user, from this number up to the next"),
        ("Sessions by their train events", sessions.get("events"), "train events, from this number up to the next"),
    )
    return {title: {**content, "unit": unit} for title, content, unit in both if content and content["count"]}


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}" if value == round(value) else ""


def _percents(counts: list[int]) -> list[str]:
    """The labels of bars; where they are many, those of the small ones would run into each other."""
    if len(counts) < MOST_EDGES:
        return [share(n, sum(counts)) if n else "" for n in counts]
    return [f"{percent:.0f} %" if (percent := 100 * n / sum(counts)) >= 0.5 else "" for n in counts]


def _readable(name: str) -> str:
    """A field's name; of a long one both ends, as fields of one kind differ in either."""
    shown = name.replace("_", " ")
    return shown if len(shown) <= 22 else f"{shown[:11]}…{shown[-10:]}"
