"""Running an import in a test, and reading back what came of it."""

import csv
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.importers import import_source
from pipeline.storage import open_parquet
from pipeline.tables import Tables


def import_files(folder: Path, files: dict[str, str | bytes], **source: Any) -> Tables:
    """Write the raw files under `folder`, import them with the `source` section, return the tables.

    Some good rows among many bad ones will do, unless `max_rejected_share` says otherwise.
    """
    raw = folder / "raw"
    raw.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return import_config(
        {"workdir": str(folder / "work"), "source": {"path": str(raw), "max_rejected_share": 0.99, **source}}
    )


def import_config(config: dict[str, Any]) -> Tables:
    checked = Config.model_validate(config)
    return Tables.read(import_source(checked).path)


def events_of(tables: Tables) -> list[tuple[str, str, int]]:
    """(user, item, timestamp) of every event, in file order."""
    rows = [row for part in tables.event_parts for row in open_parquet(part).read().to_pylist()]
    return [(row["user_id"], row["item_id"], row["timestamp"]) for row in rows]


def rejects_of(tables: Tables) -> list[tuple[str, int, str, str]]:
    """(file, line, reason, content) of every row set aside."""
    with tables.artifact.file("rejects.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["file", "line", "reason", "content"]
    return [(file, int(line), reason, content) for file, line, reason, content in rows]


def reasons_of(tables: Tables) -> list[tuple[int, str]]:
    """(line, reason) of every row set aside."""
    return [(line, reason) for _, line, reason, _ in rejects_of(tables)]


def assert_nothing_lost(tables: Tables) -> None:
    """Every record is kept, rejected or filtered, and every rejected one is in the file."""
    counts = tables.artifact.counts
    kept = counts["events"] + counts["items"] + counts["users"]
    filtered = counts["below_minimum_rating"] + counts["blank_lines"]
    assert sum(counts["records"].values()) == kept + sum(counts["rejected"].values()) + filtered
    assert sum(counts["rejected"].values()) == len(rejects_of(tables))
    assert counts["events"] == len(events_of(tables))
