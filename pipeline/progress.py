"""What a person at the terminal, or a log, is told while stages run.

Bars are for terminals: where stderr is none, nothing moves, and one line says what each stage made.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from pipeline.artifacts import Artifact

ROWS_IN = ("events", "events_kept", "train_events", "titles_distinct", "titles", "items_with_vector", "items")
"""The counter that says how many rows a stage has read: the first of these that it has."""

MOST_TOLD = 8
"""A count with more parts than this (records of a month's files) is told as their sum."""


def bar(*args: Any, **options: Any) -> tqdm:
    """A tqdm bar that shows on a terminal and keeps out of logs."""
    return tqdm(*args, disable=None, **options)


def say(text: str) -> None:
    """One line (or more) on stderr, above the bars; stdout is kept for results."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def summarised(stage: Callable[[], Artifact]) -> Artifact:
    """Run a stage and say in one line what its artefact holds."""
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
    artifact = stage()
    # An artefact from before the call was not made anew.
    seconds = None if artifact.manifest["created"] < started else time.monotonic() - clock
    say(summary(artifact, seconds))
    return artifact


def summary(artifact: Artifact, seconds: float | None) -> str:
    """`user_sequences: 2.7 s, 575,281 events (211,000/s), 6,034 users`; counters of 0 are left out.

    Args: seconds: how long the stage took; None when it was skipped.
    """
    manifest, counts = artifact.manifest, dict(artifact.counts)
    told = [f"skipped, unchanged since {manifest['created']}" if seconds is None else f"{seconds:.1f} s"]
    rows_in = next((name for name in ROWS_IN if isinstance(counts.get(name), int)), None)
    if rows_in is not None:
        rate = "" if seconds is None else f" ({_per_second(counts[rows_in], seconds)}/s)"
        told.append(_counted(rows_in, counts.pop(rows_in)) + rate)
    for name, value in counts.items():
        parts = value if isinstance(value, dict) else {"": value}
        numbers = {reason: n for reason, n in parts.items() if isinstance(n, int | float) and n}
        if len(numbers) > MOST_TOLD:
            numbers = {"": sum(numbers.values())}
        told += [_counted(name, n, reason) for reason, n in numbers.items()]
    return f"{manifest['spec']['kind']}: {', '.join(told)}"


def _counted(name: str, number: float, reason: str = "") -> str:
    shown = f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
    return f"{shown} {name}{f' ({reason})' if reason else ''}".replace("_", " ")


def _per_second(rows: int, seconds: float) -> str:
    """Three digits are all that a wall clock is good for."""
    return f"{int(float(f'{rows / max(seconds, 1e-3):.3g}')):,}"
