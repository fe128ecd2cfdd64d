"""Any CSV, JSON Lines or Parquet files with the column mapping of `source.table`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config_source import FieldConfig, SourceConfig, TableSourceConfig
from pipeline.errors import ConfigError, InputError
from pipeline.ingest import EventColumns, FieldColumn, ingest_catalogue, ingest_events, require_columns
from pipeline.read_delimited import Dialect, read_delimited, read_header
from pipeline.read_jsonl import read_jsonl, read_keys
from pipeline.read_parquet import read_names, read_parquet
from pipeline.rejects import Account, Block
from pipeline.source_files import SourceFiles, existing_file, line_blocks, source_folder
from pipeline.tables import FieldSchema, Schema
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_events import EventsWriter

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_CURE = "name the file in `source.table`"
_EVENTS_ONLY = {"timestamp", "rating", "time_format", "time_unit"}


@dataclass(frozen=True)
class TableFile:
    """One source file of any of the formats, told by its name."""

    path: Path
    name: str
    delimiter: str

    @property
    def format(self) -> str:
        return self.path.name.removesuffix(".gz").rpartition(".")[2]

    def is_empty(self) -> bool:
        """Whether there is not even a header: what a log shipper leaves of a day without events."""
        if self.format == "parquet":
            return not self.path.stat().st_size
        return next(line_blocks(self.path, self.name), None) is None

    def columns(self) -> list[str]:
        if self.format == "csv":
            return read_header(self.path, self.name, self._dialect)
        return read_keys(self.path, self.name) if self.format == "jsonl" else read_names(self.path, self.name)

    def blocks(self, account: Account, wanted: dict[str, str], ignored: list[str]) -> Iterator[Block]:
        """Read the wanted columns (use -> name); append the names of the others to `ignored`.

        Raises InputError when one is missing.
        """
        names, needed = self.columns(), list(dict.fromkeys(wanted.values()))
        if self.format == "csv" and len(names) == 1 and (other := set(names[0]) & set(",;\t|")):
            raise InputError(
                f"{self.name}:1: there is one column only, {names[0]!r}. "
                f"Cure: set `source.table.delimiter`, maybe to {min(other)!r}"
            )
        require_columns(f"{self.name}:1", names, wanted)
        ignored += [name for name in names if name not in needed]
        if self.format == "csv":
            return read_delimited(self.path, account, self._dialect, names, needed, header=True)
        return (read_jsonl if self.format == "jsonl" else read_parquet)(self.path, account, needed)

    @property
    def _dialect(self) -> Dialect:
        return Dialect(self.delimiter, quotes=True)


def files(source: SourceConfig) -> SourceFiles:
    """The files to import; those of a pattern in name order."""
    folder, table = source_folder(source), source.table
    _check(source)
    others = [name for name in (table.items, table.users) if name is not None]
    names = [*others, *_event_names(folder, table.events)]
    paths = [existing_file(folder, name, _CURE) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"`source.table`: {name} is named twice; events, items and users are files of their own")
        if not name.endswith(SUFFIXES):
            raise ConfigError(f"`source.table`: {name} must end in one of {list(SUFFIXES)}, which tell its format")
    found, count = list(zip(names, paths, strict=True)), len(others)
    return SourceFiles(dict(found[:count]), dict(found[count:]))


def event_settings(table: TableSourceConfig) -> dict[str, Any]:
    """What the events of a file depend on."""
    return table.model_dump(include={"user_id", "item_id", "delimiter", *_EVENTS_ONLY})


def catalogue_settings(table: TableSourceConfig) -> dict[str, Any]:
    """What items and users depend on."""
    return table.model_dump(exclude={"events", *_EVENTS_ONLY})


def read_catalogue(writer: CatalogueWriter, found: dict[str, Path], source: SourceConfig) -> None:
    """Read the items and users."""
    table = source.table
    schema = Schema(_schema_fields(table.item_fields), _schema_fields(table.user_fields))
    writer.write(schema, _catalogue(writer, found, table, "item_id"), _catalogue(writer, found, table, "user_id"))


def read_events(writer: EventsWriter, path: Path, source: SourceConfig) -> None:
    """Read one file of events."""
    table = source.table
    rating = table.rating if source.minimum_rating is not None else None
    columns = EventColumns(table.user_id, table.item_id, table.timestamp, rating, table.time_unit, table.time_format)
    uses = {
        f"`source.table.{use}`": column
        for use in ("user_id", "item_id", "timestamp", "rating")
        if (column := getattr(columns, use)) is not None
    }
    file = TableFile(path, writer.account.file, table.delimiter)
    if file.is_empty():
        return
    blocks = file.blocks(writer.account, uses, writer.ignored_columns)
    ingest_events(blocks, columns, source.minimum_rating, writer)


def _check(source: SourceConfig) -> None:
    table = source.table
    if source.minimum_rating is not None and table.rating is None:
        raise ConfigError("`source.minimum_rating` needs `source.table.rating`: the column of the ratings")
    for file, fields, side in ((table.items, table.item_fields, "item"), (table.users, table.user_fields, "user")):
        if fields and file is None:
            raise ConfigError(f"`source.table.{side}_fields` needs `source.table.{side}s`: the file that holds them")


def _event_names(folder: Path, pattern: str) -> list[str]:
    """The file of that name, else the files that match the pattern; the name itself when nothing does."""
    if (folder / pattern).exists() or not set("*?[") & set(pattern):
        return [pattern]
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern)) or [pattern]


def _schema_fields(fields: list[FieldConfig]) -> tuple[FieldSchema, ...]:
    return tuple(FieldSchema(field.name, field.kind, field.buckets) for field in fields)


def _catalogue(
    writer: CatalogueWriter, found: dict[str, Path], table: TableSourceConfig, id_name: str
) -> pa.Table | None:
    """The items or the users; None when the source has no file of them."""
    if id_name == "item_id":
        name, id_column, fields, side = table.items, table.items_id or table.item_id, table.item_fields, "items"
    else:
        name, id_column, fields, side = table.users, table.users_id or table.user_id, table.user_fields, "users"
    if name is None:
        return None
    columns = [
        FieldColumn(schema, field.column or field.name, field.separator)
        for schema, field in zip(_schema_fields(fields), fields, strict=True)
    ]
    uses = {f"`source.table.{side}_id`": id_column}
    uses |= {f"the {id_name[:-3]} field `{column.field.name}`": column.column for column in columns}
    account = writer.account(name)
    ignored: list[str] = []
    blocks = TableFile(found[name], name, table.delimiter).blocks(account, uses, ignored)
    writer.ignored_columns += [f"{name}:{column}" for column in ignored]
    return ingest_catalogue(blocks, id_name, id_column, columns, account)
