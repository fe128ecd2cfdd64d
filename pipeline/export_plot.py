"""The recall and latency of an index by the depth of its search, drawn."""

from pathlib import Path
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from pipeline.export_recall import Point, Tuned
from pipeline.plots import COLOURS, FAINT, INK, dress


def draw(tuned: Tuned, path: Path) -> None:
    """Recall over the time of a query, a point for each setting tried, the chosen one marked."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    times, recalls = [p.ms for p in tuned.points], [p.recall for p in tuned.points]
    axes.plot(times, recalls, color=COLOURS[0], marker="o", markersize=4, linewidth=1.6, label=tuned.index, zorder=3)
    chosen = tuned.points[-1]
    label = f"chosen: {_name(chosen)}, recall {tuned.recall:.4f} on other queries"
    axes.plot(chosen.ms, chosen.recall, "o", color=COLOURS[1], markersize=9, label=label, zorder=4)
    axes.plot(tuned.exact_ms, 1.0, "s", color=COLOURS[3], markersize=7, label="exact scan", zorder=2)
    axes.axhline(tuned.target, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    place = {"xycoords": ("axes fraction", "data"), "xytext": (4, -11), "textcoords": "offset points"}
    axes.annotate(f"target {tuned.target:g}", (0, tuned.target), fontsize=8, color=INK, **cast(Any, place))
    _name_points(axes, tuned.points)
    axes.set_xscale("log")
    axes.set_xlim(min(*times, tuned.exact_ms) / 1.5, max(*times, tuned.exact_ms) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(top=1 + 0.03 * (1.0 - min(recalls, default=1.0)) + 0.002)
    axes.set_xlabel("milliseconds of one query on one thread")
    axes.grid(axis="x", color=FAINT)
    dress(axes, f"Recall@{tuned.k} of the index")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    figure.legend(loc="outside upper left", frameon=False, labelcolor=INK)
    figure.savefig(path, dpi=150)


def _name_points(axes: Axes, points: list[Point]) -> None:
    """Every other depth, so that the names do not overlap; the last one is in the legend."""
    for point in points[-3::-2]:
        value = next(iter(point.depth.values()), None)
        if value is not None:
            axes.annotate(str(value), (point.ms, point.recall), (5, -9), textcoords="offset points", fontsize=8)


def _name(point: Point) -> str:
    parts = [f"{name} {value}" for name, value in point.depth.items()]
    return ", ".join(parts + ([f"refine {point.refine:g}"] if point.refine else [])) or "no setting"
