"""Canonical tables made in a test, small random logs, and a config on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from table_fixtures import make_tables

from pipeline import event_parts, write_catalogue
from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.config_source import Partition
from pipeline.prepare import JOBS, prepare
from pipeline.storage import Location
from pipeline.tables import EVENTS, FieldSchema, Schema

DAY = 86_400
START = 1_700_006_400
"""2023-11-15T00:00:00Z."""


def write_log(
    config: Config,
    events: pd.DataFrame | Mapping[str, pd.DataFrame],
    schema: Schema | None = None,
    items: dict | None = None,
    users: dict | None = None,
    partition: Partition = "none",
) -> None:
    """Write the tables of `config`; items and users hold a list per column (None: the source has none).

    events: the events of the one source file, or of each by its name.
    """
    schema = schema or Schema()
    catalogue = [
        None if rows is None else pa.table({f.name: pa.array(rows[f.name], f.type) for f in arrow})
        for rows, arrow in ((items, schema.items()), (users, schema.users()))
    ]
    logs = {"log": events} if isinstance(events, pd.DataFrame) else events
    tables = {
        name: pa.table({f.name: pa.array(log[f.name].tolist(), f.type) for f in EVENTS}) for name, log in logs.items()
    }
    make_tables(config.tables_dir, tables, schema, *catalogue, partition)


def log_of_days(days: int, seed: int = 1) -> pd.DataFrame:
    """A log of several days from START on, without gaps at midnight, so that sessions cross it."""
    return random_log(seed, events=150 * days, seconds=days * DAY).assign(
        timestamp=lambda log: log["timestamp"] - log["timestamp"].min() + START
    )


def by_file(events: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """One source file a day."""
    return {f"day-{day}.csv": rows for day, rows in events.groupby((events["timestamp"] - START) // DAY)}


def small_parts(monkeypatch: pytest.MonkeyPatch, row_group: int = 64) -> None:
    """Make the writer cut the tables into several row groups and parts, as a large log would be."""
    for module in (event_parts, write_catalogue):
        monkeypatch.setattr(module, "ROW_GROUP", row_group)
    monkeypatch.setattr(event_parts, "PART_ROWS", 4 * row_group)


def random_log(seed: int, events: int = 400, users: int = 30, items: int = 25, seconds: int = 40_000) -> pd.DataFrame:
    """Events with many equal timestamps and repeats; ids are not in numeric order as strings."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in random.integers(0, users, events)],
            "item_id": [f"i{i}" for i in (items * random.random(events) ** 2).astype(int)],
            "timestamp": 1_700_000_000 + random.integers(0, seconds, events) // 300 * 300,
        }
    )


SCHEMA = Schema(
    (
        FieldSchema("genre", "categorical"),
        FieldSchema("tags", "multi"),
        FieldSchema("year", "numeric", buckets=3),
        FieldSchema("title", "title"),
    ),
    (FieldSchema("country", "categorical"), FieldSchema("age", "numeric", buckets=2)),
)


def random_catalogue(seed: int, items: int = 20, users: int = 30) -> tuple[dict[str, list], dict[str, list]]:
    """Rows of SCHEMA for items i0.. and users u0..; values repeat, and some are missing."""
    random = np.random.default_rng(seed)

    def choose(values: list, n: int) -> list:
        return [values[i] for i in random.integers(0, len(values), n)]

    item_rows = {
        "item_id": [f"i{i}" for i in range(items)],
        "genre": choose(["drama", "crime", "comedy", "", None], items),
        "tags": [choose(["a", "b", "c", "d"], n) for n in random.integers(0, 4, items)],
        "year": choose([1990.0, 1995.0, 2001.0, 2020.0, None], items),
        "title": choose(["A river", "The old house", "Space", ""], items),
    }
    user_rows = {
        "user_id": [f"u{i}" for i in range(users)],
        "country": choose(["de", "fr", ""], users),
        "age": choose([18.0, 30.0, 44.0, None], users),
    }
    return item_rows, user_rows


def small_config(workdir: Location | str, **sections: Any) -> Config:
    """A config on `workdir`: leave-last-out and 3 partitions unless said otherwise."""
    sections.setdefault("prepare", {"partitions": 3})
    return Config.model_validate({"workdir": str(workdir), **sections})


def run_through(config: Config, job: str) -> Artifact:
    """Run all jobs up to this one, which need no BERT."""
    names = list(JOBS)
    return prepare(config, only=names[: names.index(job) + 1])[job]
