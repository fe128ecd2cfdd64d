"""The canonical tables: events, items and users as Parquet, and the schema of the item and user fields.

    events/part-*.parquet   user_id string, item_id string, timestamp int64 (Unix seconds, UTC)
    items.parquet           item_id string, then one column a field; one row an item
    users.parquet           user_id string, then one column a field; one row a user
    schema.json             the fields: name, kind, buckets
    rejects.csv             rows that could not be imported: file, line, reason, content

A missing value is "" (categorical, title), an empty list (multi) or null (numeric). Exactly equal events are
kept: a user who clicks an item twice within one second did click it twice.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts import Artifact, Draft, Spec, create, open_artifact
from pipeline.errors import ConfigError, InputError
from pipeline.rejects import Account, Rejects
from pipeline.storage import Location

KIND, VERSION = "tables", 1
FieldKind = Literal["categorical", "multi", "numeric", "title"]
EVENTS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
ROW_GROUP = 1 << 18
PART_ROWS = 16 * ROW_GROUP
WHOLE_LOG = "all"
RESERVED = frozenset({"item_id", "user_id", "history"})
"""Names with a meaning of their own beside the fields: the two ids, and the user tower's history input."""

_ARROW_TYPES = {
    "categorical": pa.string(),
    "multi": pa.list_(pa.string()),
    "numeric": pa.float64(),
    "title": pa.string(),
}


@dataclass(frozen=True)
class FieldSchema:
    """One field of items or users. `buckets` matters to numeric fields only."""

    name: str
    kind: FieldKind
    buckets: int = 10

    @property
    def arrow_type(self) -> pa.DataType:
        return _ARROW_TYPES[self.kind]


@dataclass(frozen=True)
class Schema:
    """The fields beside the ids. Raises ConfigError for a name that is reserved, repeated or no file name."""

    item_fields: tuple[FieldSchema, ...] = ()
    user_fields: tuple[FieldSchema, ...] = ()

    def __post_init__(self) -> None:
        for side, fields in (("item", self.item_fields), ("user", self.user_fields)):
            names = [field.name for field in fields]
            for name in names:
                if name in RESERVED:
                    raise ConfigError(
                        f"{side} field `{name}`: this name is reserved. Cure: give the field another `name`"
                    )
                if names.count(name) > 1:
                    raise ConfigError(f"{side} field `{name}` is there twice. Cure: give one of them another `name`")
                if not name or name.startswith(".") or "/" in name:
                    raise ConfigError(f"{side} field {name!r}: a name must be fit for a file name")

    def items(self) -> pa.Schema:
        return _arrow_schema("item_id", self.item_fields)

    def users(self) -> pa.Schema:
        return _arrow_schema("user_id", self.user_fields)

    def as_json(self) -> dict[str, Any]:
        return {
            "item_fields": [vars(field) for field in self.item_fields],
            "user_fields": [vars(field) for field in self.user_fields],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Schema":
        return cls(
            tuple(FieldSchema(**field) for field in data["item_fields"]),
            tuple(FieldSchema(**field) for field in data["user_fields"]),
        )


def _arrow_schema(id_name: str, fields: tuple[FieldSchema, ...]) -> pa.Schema:
    return pa.schema([(id_name, pa.string()), *((field.name, field.arrow_type) for field in fields)])


@dataclass(frozen=True)
class Tables:
    """The tables artefact, opened. Events are named by part, as they may not fit in memory."""

    artifact: Artifact
    schema: Schema

    @property
    def event_parts(self) -> list[Location]:
        return self.artifact.locations("events/")

    @property
    def days(self) -> dict[str, list[Path]]:
        return {WHOLE_LOG: self.event_parts}

    def day_fingerprint(self, day: str) -> str:
        return self.artifact.fingerprint

    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.file("items.parquet"))

    def users(self) -> pa.Table:
        return pq.read_table(self.artifact.file("users.parquet"))

    @classmethod
    def read(cls, path: Location | str) -> "Tables":
        """Open the artefact. Raises ArtifactError when it is missing, foreign or truncated."""
        artifact = open_artifact(path, KIND, VERSION)
        schema = json.loads(artifact.file("schema.json").read_text(encoding="utf-8"))
        return cls(artifact, Schema.from_json(schema))


class TablesWriter:
    """Writes one set of tables into a draft: the catalogue once, then events in any number of pieces.

    `rejects` takes the rows set aside; `account(name)` opens the account of one source file, whose totals go into
    the counts; `ignored_columns` names what an importer had to leave out. Use `write_tables`, which closes everything.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._item_ids = pa.array([], pa.string())
        self._accounts: list[Account] = []
        self._events = _EventParts(draft.dir / "events")
        self.ignored_columns: list[str] = []
        self.rejects = Rejects(draft.dir / "rejects.csv")

    def account(self, file: str) -> Account:
        account = Account(file, self.rejects)
        self._accounts.append(account)
        return account

    def write_catalogue(self, schema: Schema, items: pa.Table | None, users: pa.Table | None) -> None:
        """Write items and users (None: the source has none), cast to the schema's types. Ids must be unique."""
        counts = self._draft.counts
        for name, table, arrow in (("items", items, schema.items()), ("users", users, schema.users())):
            table = arrow.empty_table() if table is None else table.select(arrow.names).cast(arrow)
            pq.write_table(table, self._draft.dir / f"{name}.parquet", row_group_size=ROW_GROUP)
            counts[name] = table.num_rows
            if name == "items":
                self._item_ids = table["item_id"].combine_chunks()
        text = json.dumps(schema.as_json(), indent=1)
        (self._draft.dir / "schema.json").write_text(text, encoding="utf-8")
        counts["events_without_catalogue_item"] = 0

    def add_events(self, events: pa.Table) -> None:
        """Append events (columns of EVENTS), after the catalogue is written."""
        known = pc.is_in(events["item_id"], value_set=self._item_ids)
        self._draft.counts["events_without_catalogue_item"] += events.num_rows - (pc.sum(known).as_py() or 0)
        self._events.add(events.cast(EVENTS))

    def finish(self) -> None:
        """Write what is buffered, and the counts. Raises InputError when there is no event."""
        if self._events.rows == 0:
            raise InputError("no event is left. Cure: lower `source.minimum_rating`, or name files that hold events")
        self._events.flush()
        filtered = [account.filtered for account in self._accounts]
        self._draft.counts |= {
            "events": self._events.rows,
            "first_event": _iso(self._events.first),
            "last_event": _iso(self._events.last),
            "records": {account.file: account.records for account in self._accounts},
            "rejected": dict(sorted(self.rejects.counts.items())),
            "below_minimum_rating": sum(f["below_minimum_rating"] for f in filtered),
            "blank_lines": sum(f["blank_lines"] for f in filtered),
            "ignored_columns": self.ignored_columns,
        }

    def __enter__(self) -> "TablesWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
        self.rejects.__exit__(kind, error, trace)


class _EventParts:
    """Events as part files of at most PART_ROWS rows, in row groups of ROW_GROUP rows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._buffer: list[pa.Table] = []
        self._buffered = 0
        self._part: pq.ParquetWriter | None = None
        self._written = self._parts = 0
        self.first: int | None = None
        self.last: int | None = None

    @property
    def rows(self) -> int:
        return self._written + self._buffered

    def add(self, events: pa.Table) -> None:
        if events.num_rows == 0:
            return
        span = pc.min_max(events["timestamp"]).as_py()
        self.first = span["min"] if self.first is None else min(self.first, span["min"])
        self.last = span["max"] if self.last is None else max(self.last, span["max"])
        self._buffer.append(events)
        self._buffered += events.num_rows
        while self._buffered >= ROW_GROUP:
            self._write_group(ROW_GROUP)

    def flush(self) -> None:
        """Write what is left."""
        if self._buffered:
            self._write_group(self._buffered)
        self.close()

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _write_group(self, rows: int) -> None:
        table = pa.concat_tables([EVENTS.empty_table(), *self._buffer])
        if self._part is None or self._written % PART_ROWS == 0:
            self.close()
            self._part = pq.ParquetWriter(self._folder / f"part-{self._parts:05d}.parquet", EVENTS)
            self._parts += 1
        self._part.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
        self._written += rows
        self._buffer, self._buffered = [table.slice(rows)], table.num_rows - rows


@contextmanager
def write_tables(path: Location | str, spec: Spec) -> Iterator[TablesWriter]:
    """Write the tables artefact; it becomes visible when the block ends well."""
    with create(path, spec) as draft, TablesWriter(draft) as writer:
        yield writer
        writer.finish()


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
