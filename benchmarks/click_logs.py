"""Seeded click logs and a catalogue of any size, as the Parquet files of a `table` source.

    python -m benchmarks.click_logs FOLDER --clicks 5000000

writes them to FOLDER/source/ and imports them into FOLDER/imported/, by the configuration FOLDER/config.yaml; what the
peers of the Beam jobs need to know goes to FOLDER/task.json.

Clicks come in sessions: a user starts one at a random second of the period and clicks on, seconds to minutes apart.
Users and items follow Zipf's law, half of a session's clicks stay on the shelf of its first one, a few sessions are a
crawler's, and two clicks of one user within one second are rare but there. Ids are strings without any order.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peer_task import Task
from pipeline.config import Config
from pipeline.importers import import_source
from pipeline.tables import Tables

PARTITION_CLICKS = 625_000
"""A partition of the Beam jobs holds so many clicks, however many there are."""
START = 1_704_067_200
"""2024-01-01T00:00:00Z."""
DAY = 86_400
CLICKS_PER_SESSION = 5
CRAWLER_SHARE, CRAWLER_CLICKS = 1e-5, 500
TIE_SHARE, UNLISTED_SHARE = 0.005, 0.01
CATEGORICAL = {"category": 30, "subcategory": 400, "brand": 20_000, "country": 50, "language": 20}
"""Values of each single-valued field."""
MULTI = {"tags": (2_000, 5), "creators": (50_000, 3)}
"""Values of each multi-valued field, and how many an item carries at most."""
FIELDS = [
    *({"name": name, "kind": "categorical"} for name in CATEGORICAL),
    {"name": "price", "kind": "numeric"},
    *({"name": name, "kind": "multi"} for name in MULTI),
]


@dataclass(frozen=True)
class Size:
    """How large a log is: clicks on `items` by `users` over some days, and the rows of the catalogue."""

    clicks: int = 5_000_000
    users: int = 200_000
    items: int = 100_000
    catalogue: int = 500_000
    days: int = 28


def write(folder: Path, size: Size, seed: int, by_day: bool = False) -> None:
    """Write items.parquet and the clicks in order of time: clicks.parquet, or a clicks-<date>.parquet per day."""
    folder.mkdir(parents=True, exist_ok=True)
    events = np.random.default_rng((seed, 1))
    clicks = make_clicks(size, events, ids("user-", size.users, seed), ids("", max(size.items, size.catalogue), seed))
    if not by_day:
        pq.write_table(clicks, folder / "clicks.parquet")
    else:
        dates = (clicks["timestamp"].to_numpy() - START) // DAY
        for day, rows in enumerate(np.searchsorted(dates, np.arange(size.days + 1))[:-1]):
            stop = np.searchsorted(dates, day + 1)
            name = np.datetime64(START + day * DAY, "s").astype("datetime64[D]")
            pq.write_table(clicks.slice(rows, stop - rows), folder / f"clicks-{name}.parquet")
    pq.write_table(make_catalogue(size, np.random.default_rng((seed, 2)), seed), folder / "items.parquet")


def settings(folder: Path, workdir: Path, partition: str) -> dict[str, Any]:
    """The configuration that imports what `write` wrote to `folder`; partition: that of the source."""
    table = {"events": "clicks*.parquet", "items": "items.parquet", "item_fields": FIELDS}
    source = {"format": "table", "path": str(folder), "partition": partition, "table": table}
    return {"workdir": str(workdir), "source": source}


def ids(prefix: str, n: int, seed: int) -> pa.Array:
    """n distinct strings: the prefix and 16 hex digits."""
    x = np.arange(n, dtype=np.uint64) + np.uint64(seed << 32) + np.uint64(len(prefix) << 56)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64, which is one to one
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return pa.array([f"{prefix}{value:016x}" for value in x.tolist()], pa.string())


def zipf(random: np.random.Generator, values: int, n: int, exponent: float = 1.0, offset: float = 3.0) -> np.ndarray:
    """n ranks in 0 .. values - 1, rank r with a probability proportional to (r + offset) ** -exponent: int64 [n]."""
    mass = np.cumsum((np.arange(values) + offset) ** -exponent)
    return np.searchsorted(mass, random.random(n) * mass[-1], side="right").clip(max=values - 1)


def make_clicks(size: Size, random: np.random.Generator, user_ids: pa.Array, item_ids: pa.Array) -> pa.Table:
    """Columns user_id, item_id (strings) and timestamp (int64 Unix seconds), in order of time.

    The clicked items are spread over the catalogue; UNLISTED_SHARE of them have an id outside of it.
    """
    lengths = random.geometric(1 / CLICKS_PER_SESSION, 2 + size.clicks // CLICKS_PER_SESSION)
    lengths[random.random(len(lengths)) < CRAWLER_SHARE] = CRAWLER_CLICKS
    lengths = lengths[: 1 + np.searchsorted(np.cumsum(lengths), size.clicks)]
    session = np.repeat(np.arange(len(lengths)), lengths)[: size.clicks]
    n = len(session)
    users = zipf(random, size.users, len(lengths), exponent=0.6, offset=30)[session]
    gaps = np.where(random.random(n) < TIE_SHARE, 0, 1 + random.exponential(90, n)).astype(np.int64)
    first = np.concatenate(([True], session[1:] != session[:-1]))
    since = np.cumsum(gaps)
    since -= since[np.flatnonzero(first)][session]
    start = random.integers(0, size.days * DAY, len(lengths))
    timestamps = START + np.minimum(start[session] + since, size.days * DAY - 1)
    items = _items(size, random, session, first)
    order = np.argsort(timestamps, kind="stable")
    return pa.table(
        {
            "user_id": user_ids.take(pa.array(users[order])),
            "item_id": _clickable(size, random, item_ids).take(pa.array(items[order])),
            "timestamp": timestamps[order],
        }
    )


def _items(size: Size, random: np.random.Generator, session: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Zipf ranks; half of them on the shelf (rank modulo the shelves) of their session's first item."""
    shelves = max(1, size.items // 200)
    items = zipf(random, size.items, len(session))
    shelf = (items % shelves)[np.flatnonzero(first)][session]
    moved = np.minimum(items // shelves * shelves + shelf, size.items - 1)
    return np.where(random.random(len(items)) < 0.5, moved, items)


def _clickable(size: Size, random: np.random.Generator, item_ids: pa.Array) -> pa.Array:
    """The ids of the clicked items by rank: drawn from the catalogue, and some from outside of it."""
    drawn = item_ids.take(pa.array(random.permutation(len(item_ids))[: size.items])).to_pylist()
    unlisted = random.random(size.items) < UNLISTED_SHARE
    return pa.array([f"{item}-x" if out else item for item, out in zip(drawn, unlisted, strict=True)], pa.string())


def make_catalogue(size: Size, random: np.random.Generator, seed: int) -> pa.Table:
    """The rows of items.parquet; a twentieth of the values is missing, and each field leans on the one before."""
    n, columns = size.catalogue, {"item_id": ids("", max(size.items, size.catalogue), seed)[: size.catalogue]}
    leaning = zipf(random, 30, n)
    for name, values in CATEGORICAL.items():
        drawn = zipf(random, values, n)
        drawn = np.where(random.random(n) < 0.5, leaning * 7919 % values, drawn)
        leaning, present = drawn, random.random(n) >= 0.05
        columns[name] = ids(f"{name[:3]}-", values, seed).take(pa.array(np.where(present, drawn, 0), mask=~present))
    price = np.round(np.exp(random.normal(3, 1, n)), 2)
    columns["price"] = pa.array(price, mask=random.random(n) < 0.05)
    for name, (values, most) in MULTI.items():
        lengths = random.integers(0, most + 1, n)
        drawn = zipf(random, values, int(lengths.sum()))
        lists = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
        columns[name] = pa.ListArray.from_arrays(lists, ids(f"{name[:3]}-", values, seed).take(pa.array(drawn)))
    return pa.table(columns)


def write_config(folder: Path, size: Size, partition: str) -> Config:
    """Write config.yaml for the log in `folder` and return it."""
    content = settings(folder / "source", folder / "imported", partition)
    content["prepare"] = {"partitions": math.ceil(size.clicks / PARTITION_CLICKS)}
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps(content), encoding="utf-8")
    return Config.model_validate(content)


def prepare_inputs(folder: Path, size: Size, seed: int, partition: str = "none") -> None:
    """Everything the benchmark of the Beam jobs begins with, in `folder`."""
    write(folder / "source", size, seed)
    config = write_config(folder, size, partition)
    import_source(config)
    task = json.dumps(asdict(make_task(config)))
    (folder / "task.json").write_text(task, encoding="utf-8")


def make_task(config: Config) -> Task:
    """What a peer needs to know to do the work of the Beam jobs of this configuration."""
    tables, session = Tables.read(config.tables_dir), config.prepare.session
    fields = tables.schema.item_fields
    categorical, numeric, multi = (
        [field.name for field in fields if field.kind == kind] for kind in ("categorical", "numeric", "multi")
    )
    return Task(
        events=[str(part) for part in tables.event_parts],
        items=str(tables.artifact.file("items.parquet")),
        categorical=categorical,
        numeric=numeric,
        multi=multi,
        buckets=fields[0].buckets,
        min_events=config.split.min_events,
        gap_seconds=session.gap_seconds,
        max_session_items=session.max_session_items,
        top_n=session.top_n,
    )


def main(argv: list[str] | None = None) -> None:
    """Write the inputs of a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partition", choices=["none", "day"], default="none")
    parser.add_argument("--by-day", action="store_true", help="a file a day; import nothing")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args(argv)
    size = Size(**{name: getattr(arguments, name) for name in asdict(Size())})
    if arguments.by_day:
        write(arguments.folder / "source", size, arguments.seed, by_day=True)
        write_config(arguments.folder, size, "day")
    else:
        prepare_inputs(arguments.folder, size, arguments.seed, arguments.partition)


if __name__ == "__main__":
    main()
