"""The figures of the data report, from whichever artefacts there are: counters first, columns of numbers second.

Strings are read only of the catalogue, a column at a time.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.batch_files import read_batch
from beam_jobs.day_events import Window
from beam_jobs.sessions import positions, session_numbers
from pipeline.artifacts import Artifact
from pipeline.catalogue import MISSING, Vocabularies
from pipeline.metrics import popularity_deciles
from pipeline.storage import Location, open_parquet
from pipeline.tables import WHOLE_LOG, FieldSchema, Tables
from pipeline.vocabulary import Vocabulary

DAY = 86_400
CURVE_POINTS = 200
TOP_ITEMS, TOP_VALUES = 20, 5


def source_rows(tables: Artifact) -> list[dict[str, Any]]:
    """What became of the rows of each source file: file, rows, kept, filtered and refused, both by reason."""
    return [
        {
            "file": file,
            "rows": tables.counts["records"][file],
            "kept": outcome["kept"],
            "filtered": outcome["filtered"],
            "refused": outcome["rejected"],
        }
        for file, outcome in tables.counts["files"].items()
    ]


def days_of(window: Window) -> dict[str, Artifact]:
    """The coded events of each date of the window, ascending; all of them under WHOLE_LOG when the log is not cut."""
    return {day.path.name.removeprefix("date="): day for day in window.days}


def events_a_day(window: Window) -> dict[str, int]:
    """Events of each date (UTC) that has any, ascending: {"2024-01-31": 1000}."""
    days = days_of(window)
    if WHOLE_LOG not in days:
        return {day: artifact.counts["events"] for day, artifact in days.items()}
    found: Counter[int] = Counter()
    for part in days[WHOLE_LOG].locations("events-"):
        found.update(_tally(read_batch(part)["timestamp"].to_numpy() // DAY))
    return {str(np.datetime64(day, "D")): found[day] for day in sorted(found)}


def _columns(parts: Iterable[Location], names: list[str]) -> Iterator[list[pa.ChunkedArray]]:
    """Some columns of each row group of Parquet files."""
    for part in parts:
        file = open_parquet(part)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=names).columns


# ---- users and their sessions


def histories(parts: Iterable[Location], gap_seconds: int | None) -> dict[str, dict[str, Any]]:
    """`spread` of the events of a user and, of the train events, of a session (None: only users), by the user
    sequences' timestamps alone."""
    of_users, of_sessions = Counter[int](), Counter[int]()
    for column, ends in _columns(parts, ["timestamps", "train_end"]):
        lists, train_end = column.combine_chunks(), ends.to_numpy()
        lengths, timestamps = lists.value_lengths().to_numpy(), lists.flatten().to_numpy()
        of_users.update(_tally(lengths))
        if gap_seconds is not None:
            users = np.repeat(np.arange(len(lengths)), lengths)
            train = positions(users) < np.repeat(train_end, lengths)
            sessions = session_numbers(users[train], timestamps[train], gap_seconds)
            of_sessions.update(_tally(np.bincount(sessions)))
    found = {"users": spread(of_users)}
    return found if gap_seconds is None else {**found, "sessions": spread(of_sessions)}


def _tally(lengths: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(lengths, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def spread(tally: Counter[int]) -> dict[str, Any]:
    """Of lengths, how many have each: their number, mean, median, 90th percentile, largest, and bins that double.

    A percentile is the smallest length that so many do not exceed. A bin is {first, last, count}: 1, 2, 3-4, 5-8 ...
    """
    lengths = np.array(sorted(tally), np.int64)
    counts = np.array([tally[length] for length in lengths.tolist()], np.int64)
    if not len(lengths):
        return {"count": 0, "bins": []}
    below, total = np.cumsum(counts), int(counts.sum())
    bin_of = np.frexp(lengths - 1)[1]  # the smallest i with length <= 2 ** i
    sizes = np.bincount(bin_of, weights=counts).astype(np.int64).tolist()
    return {
        "count": total,
        "mean": round(float((lengths * counts).sum() / total), 3),
        "median": int(lengths[np.searchsorted(below, total / 2)]),
        "p90": int(lengths[np.searchsorted(below, total * 0.9)]),
        "largest": int(lengths[-1]),
        "bins": [{"first": 2 ** (i - 1) + 1 if i else 1, "last": 2**i, "count": size} for i, size in enumerate(sizes)],
    }


# ---- items


def popularity(counts: np.ndarray) -> dict[str, Any]:
    """How the train events spread over the items. counts: int64 [N], largest first.

    curve: (rank, events), ranks about evenly spaced on a log scale. The head is that of the evaluation.
    """
    trained = counts[counts > 0]
    if not len(trained):
        return {"trained": 0, "curve": []}
    head = int(np.count_nonzero(popularity_deciles(trained) == 0))
    ranks = np.unique(np.geomspace(1, len(trained), CURVE_POINTS).round().astype(np.int64))
    return {
        "trained": len(trained),
        "events": int(trained.sum()),
        "head_items": head,
        "head_share": round(float(trained[:head].sum() / trained.sum()), 6),
        "median": int(trained[len(trained) // 2]),
        "once": int(np.count_nonzero(trained == 1)),
        "curve": [[rank, int(trained[rank - 1])] for rank in ranks.tolist()],
    }


def top_items(items: Vocabulary, tables: Tables) -> list[dict[str, Any]]:
    """The items with most train events: id, title ("" without one), events."""
    ids = items.values[:TOP_ITEMS].to_pylist()
    titles: dict[str, str] = {}
    field = next((f.name for f in tables.schema.item_fields if f.kind == "title"), None)
    if field is not None and ids:
        path, wanted = tables.artifact.file("items.parquet"), [("item_id", "in", ids)]
        found = pq.read_table(path, columns=["item_id", field], filters=wanted)
        titles = dict(zip(found["item_id"].to_pylist(), found[field].to_pylist(), strict=True))
    return [
        {"id": item, "title": titles.get(item) or MISSING, "events": events}
        for item, events in zip(ids, items.counts[:TOP_ITEMS].tolist(), strict=True)
        if events
    ]


# ---- fields


def fields(tables: Tables, vocabularies: Vocabularies | None) -> list[dict[str, Any]]:
    """Each field: side, name, kind, rows, with_value; then `values` and `top`, or min, median and max of numbers."""
    found = []
    for side, schema in (("item", tables.schema.item_fields), ("user", tables.schema.user_fields)):
        path = tables.artifact.file(f"{side}s.parquet")
        rows = pq.read_metadata(path).num_rows
        for field in schema:
            described = {"side": side, "name": field.name, "kind": field.kind, "rows": rows}
            if field.kind in ("categorical", "multi"):
                known = None if vocabularies is None else getattr(vocabularies, f"{side}_fields")[field.name]
                found.append(described | (_values(known, rows) if known else {}))
            else:
                found.append(described | _column(path, field))
    return found


def _values(vocabulary: Vocabulary, rows: int) -> dict[str, Any]:
    named = pc.not_equal(vocabulary.values, MISSING).to_numpy(zero_copy_only=False)
    values, counts = vocabulary.values.filter(pa.array(named)), vocabulary.counts[named]
    top = zip(values[:TOP_VALUES].to_pylist(), counts[:TOP_VALUES].tolist(), strict=True)
    return {
        "with_value": rows - int(vocabulary.counts[~named].sum()),
        "values": len(values),
        "top": [[value, count] for value, count in top],
    }


def _column(path: Path, field: FieldSchema) -> dict[str, Any]:
    """Coverage of titles or numbers, from the column itself."""
    column = pq.read_table(path, columns=[field.name])[field.name]
    if field.kind == "title":
        return {"with_value": pc.sum(pc.not_equal(column, MISSING)).as_py() or 0}
    numbers = column.drop_null().to_numpy()
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return {"with_value": 0}
    low, middle, high = np.quantile(numbers, [0, 0.5, 1]).tolist()
    return {"with_value": len(numbers), "min": low, "median": middle, "max": high}


def mutual_information(artifact: Artifact) -> dict[str, Any]:
    """The names of the fields and the matrix, in nats, entropies on the diagonal."""
    return json.loads(artifact.file("mutual_information.json").read_text(encoding="utf-8"))
