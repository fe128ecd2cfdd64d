"""The canonical tables: events, items and users as Parquet, and the schema of the item and user fields.

    tables/                      one artefact: the door to everything below
      items.parquet              item_id string, then one column a field; one row an item
      users.parquet              user_id string, then one column a field; one row a user
      schema.json                the fields: name, kind, buckets
      events.json                the source files of events: where their events lie, the checksums of each day's parts
      rejects.csv                rows of all files that could not be imported: file, line, reason, content
    events/<16 hex>/             one artefact a source file of events, named by its content and how it was read
      date=<day>/part-*.parquet  user_id string, item_id string, timestamp int64 (Unix seconds, UTC)

<day> is the UTC date of the events (`source.partition: day`), or `all` (`none`). A missing value is "" (categorical,
title), an empty list (multi) or null (numeric). Exactly equal events are kept: a user who clicks an item twice within
one second did click it twice.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import Artifact, open_artifact
from pipeline.errors import ArtifactError, ConfigError
from pipeline.storage import Location, in_parallel

KIND, VERSION = "tables", 2
EVENTS_KIND, EVENTS_VERSION = "events", 1
FieldKind = Literal["categorical", "multi", "numeric", "title"]
EVENTS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
WHOLE_LOG = "all"
"""The one day of tables that are not cut by day."""
RESERVED = frozenset({"item_id", "user_id", "history"})
"""Names with a meaning of their own beside the fields: the two ids, and the user tower's history input."""
OF_A_BATCH = frozenset(
    {
        *("positive", "weight", "distinct_items", "item_rows", "clicked", "clicked_by"),
        *("uniform_negatives", "explicit_negatives", "user_row"),
    }
)
"""What a training batch holds beside the fields of its users (`TwoTower.compute_loss`)."""

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
                if name in RESERVED or (side == "user" and name in OF_A_BATCH):
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
class EventFile:
    """The events of one source file, as the tables name them.

    file: the source file; several may have the same content, and share an artefact.
    artifact, fingerprint: the folder beside the tables that holds its events, and the checksum of what is in it.
    days: the SHA-256 of each day's parts, in their order; days ascending.
    outside_catalogue: its events of items that the catalogue lacks.
    """

    file: str
    artifact: str
    fingerprint: str
    days: dict[str, list[str]]
    outside_catalogue: int


@dataclass(frozen=True)
class Tables:
    """The tables artefact, opened. Events are named by part, as they may not fit in memory."""

    artifact: Artifact
    schema: Schema
    event_files: tuple[EventFile, ...]

    @cached_property
    def days(self) -> dict[str, list[Location]]:
        """The parts of each day's events: UTC date such as `2024-01-31`, ascending, or WHOLE_LOG alone.

        Raises ArtifactError when the events of a source file are missing, truncated, or not those the tables name.
        """
        parts: dict[str, list[Location]] = {}
        opened = in_parallel(self.open_events, self.event_files)
        for file, artifact in zip(self.event_files, opened, strict=True):
            for day in file.days:
                parts.setdefault(day, []).extend(artifact.locations(f"date={day}/"))
        return dict(sorted(parts.items()))

    def day_fingerprint(self, day: str) -> str:
        """A checksum of one day's events, whichever files they came in. Raises KeyError for a day without any."""
        checksums = sorted(checksum for file in self.event_files for checksum in file.days.get(day, ()))
        if not checksums:
            raise KeyError(day)
        return hashlib.sha256("".join(checksums).encode()).hexdigest()

    @property
    def event_parts(self) -> list[Location]:
        """All parts, day after day."""
        return [part for parts in self.days.values() for part in parts]

    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.file("items.parquet"))

    def users(self) -> pa.Table:
        return pq.read_table(self.artifact.file("users.parquet"))

    @classmethod
    def read(cls, path: Location | str) -> "Tables":
        """Open the artefact. Raises ArtifactError when it is missing, foreign or truncated."""
        artifact = open_artifact(path, KIND, VERSION)
        schema, events = (
            json.loads(artifact.file(name).read_text(encoding="utf-8")) for name in ("schema.json", "events.json")
        )
        return cls(artifact, Schema.from_json(schema), tuple(EventFile(**file) for file in events["files"]))

    def open_events(self, file: EventFile) -> Artifact:
        """The artefact of one of `event_files`. Raises ArtifactError when it is missing, truncated or another."""
        events = open_artifact(events_dir(self.artifact.path) / file.artifact, EVENTS_KIND, EVENTS_VERSION)
        if events.fingerprint != file.fingerprint:
            raise ArtifactError(f"{events.path} is not what {self.artifact.path} was made of. Cure: import again")
        return events


def events_dir(tables: Location) -> Location:
    """Where the events lie, beside the tables artefact: they move with it."""
    return tables.parent / "events"
