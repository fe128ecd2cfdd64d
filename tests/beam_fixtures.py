"""Canonical tables made in a test, in the format the importers write, and small random logs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import Spec, create
from pipeline.config import Config

ARROW_TYPES = {"numeric": pa.float64(), "multi": pa.list_(pa.string())}


def write_tables(
    path: Path,
    events: pd.DataFrame,
    items: dict[str, list],
    users: dict[str, list],
    item_fields: dict[str, str] | None = None,
    user_fields: dict[str, str] | None = None,
    row_group_size: int = 1_000_000,
    buckets: int = 3,
) -> None:
    """Write a tables artefact. events: user_id, item_id, timestamp; *_fields: kind by name."""
    item_fields, user_fields = item_fields or {}, user_fields or {}
    spec = Spec("tables", 1, config={"content": repr((events.to_csv(), items, users))})
    with create(path, spec) as draft:
        (draft.dir / "events").mkdir()
        columns = [
            pa.array(events["user_id"].tolist(), pa.string()),
            pa.array(events["item_id"].tolist(), pa.string()),
            pa.array(events["timestamp"].tolist(), pa.int64()),
        ]
        log = pa.table(columns, names=["user_id", "item_id", "timestamp"])
        half = len(log) // 2
        for number, part in enumerate((log.slice(0, half), log.slice(half))):
            pq.write_table(part, draft.dir / f"events/part-{number:05d}.parquet", row_group_size=row_group_size)
        for name, rows, fields in (("item", items, item_fields), ("user", users, user_fields)):
            types = {f"{name}_id": pa.string(), **{f: ARROW_TYPES.get(k, pa.string()) for f, k in fields.items()}}
            table = pa.table({c: pa.array(rows.get(c, []), t) for c, t in types.items()})
            pq.write_table(table, draft.dir / f"{name}s.parquet", row_group_size=row_group_size)
        schema = {
            f"{name}_fields": [{"name": n, "kind": k, "buckets": buckets} for n, k in fields.items()]
            for name, fields in (("item", item_fields), ("user", user_fields))
        }
        (draft.dir / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
        (draft.dir / "rejects.csv").write_text("source,line,reason,content\n", encoding="utf-8")
        draft.counts.update(events=len(events), items=len(items["item_id"]), users=len(users["user_id"]), rejected={})


def random_log(seed: int, events: int = 400, users: int = 30, items: int = 25, seconds: int = 40_000) -> pd.DataFrame:
    """Events with many equal timestamps and repeats; ids are not in numeric order as strings."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in random.integers(0, users, events)],
            "item_id": [f"i{i}" for i in (items * random.random(events) ** 2).astype(int)],
            "timestamp": random.integers(0, seconds, events) // 300 * 300,
        }
    )


def small_config(workdir: Path, **sections: Any) -> Config:
    """A config on `workdir` with leave-last-out and 3 partitions unless said otherwise."""
    sections.setdefault("prepare", {"partitions": 3})
    return Config.model_validate({"workdir": str(workdir), **sections})
