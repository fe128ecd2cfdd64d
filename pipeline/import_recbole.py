"""RecBole atomic files: one `<name>.inter`, maybe `.item` and `.user`; tab-separated, with `name:type` headers.

token becomes a categorical field, token_seq (split at spaces) a multi one, or a title when its name ends in `title`
or `name`; float becomes numeric. float_seq has no counterpart: such columns are counted as `ignored_columns`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config_source import SourceConfig
from pipeline.errors import InputError, nearest
from pipeline.ingest import EventColumns, FieldColumn, ingest_catalogue, ingest_events, require_columns
from pipeline.read_delimited import Dialect, read_delimited, read_header
from pipeline.rejects import Account, Block
from pipeline.source_files import SourceFiles, source_folder
from pipeline.tables import FieldKind, FieldSchema, Schema
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_events import EventsWriter

DIALECT = Dialect("\t")
KINDS: dict[str, FieldKind | None] = {
    "token": "categorical",
    "token_seq": "multi",
    "float": "numeric",
    "float_seq": None,
}


@dataclass(frozen=True)
class AtomicFile:
    """One file: its columns' types by name, in order."""

    path: Path
    types: dict[str, str]

    def blocks(self, account: Account, wanted: list[str]) -> Iterator[Block]:
        return read_delimited(self.path, account, DIALECT, list(self.types), wanted, header=True)


def files(source: SourceConfig) -> SourceFiles:
    """The files to import."""
    folder = source_folder(source)
    by_suffix = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in (".inter", ".item", ".user")}
    for suffix, paths in by_suffix.items():
        if len(paths) > 1:
            names = [path.name for path in paths]
            raise InputError(f"{folder} holds {len(paths)} {suffix} files: {names}. Cure: leave one in the folder")
    if not by_suffix[".inter"]:
        present = sorted(path.name for path in folder.iterdir())[:20]
        raise InputError(
            f"no .inter file in {folder}, which holds {present}. Cure: point `source.path` at RecBole files"
        )
    return SourceFiles(
        {path.name: path for suffix in (".item", ".user") for path in by_suffix[suffix]},
        {path.name: path for path in by_suffix[".inter"]},
    )


def read_catalogue(writer: CatalogueWriter, found: dict[str, Path], source: SourceConfig) -> None:
    """Read the .item and .user files."""
    fields: dict[str, tuple[FieldSchema, ...]] = {".item": (), ".user": ()}
    catalogue = dict.fromkeys(fields)
    for name, path in found.items():
        suffix = path.suffix
        id_name = f"{suffix[1:]}_id"
        file = _open(path, name, [id_name])
        fields[suffix] = _fields(file.types, id_name)
        writer.ignored_columns += [f"{name}:{column}" for column, type in file.types.items() if not KINDS[type]]
        columns = [FieldColumn(field, field.name, " ") for field in fields[suffix]]
        account = writer.account(name)
        blocks = file.blocks(account, [id_name, *(field.name for field in fields[suffix])])
        catalogue[suffix] = ingest_catalogue(blocks, id_name, id_name, columns, account)
    writer.write(Schema(fields[".item"], fields[".user"]), catalogue[".item"], catalogue[".user"])


def read_events(writer: EventsWriter, path: Path, source: SourceConfig) -> None:
    """Read the .inter file."""
    columns = EventColumns("user_id", "item_id", "timestamp", "rating" if source.minimum_rating is not None else None)
    file = _open(path, writer.account.file, columns.names())
    ingest_events(file.blocks(writer.account, columns.names()), columns, source.minimum_rating, writer)


def _open(path: Path, name: str, required: list[str]) -> AtomicFile:
    """Read the header and check it. Raises InputError naming the column that is missing or mistyped."""
    names: list[str] = []
    types: dict[str, str] = {}
    for cell in read_header(path, name, DIALECT):
        column, colon, kind = cell.partition(":")
        if not colon or kind not in KINDS:
            raise InputError(
                f"{name}:1: the header must hold tab-separated `name:type` with a type of {list(KINDS)}, "
                f"but has {cell[:100]!r}.{nearest(kind, KINDS) if colon else ''} Cure: name a RecBole atomic file"
            )
        names.append(column)
        types[column] = kind
    for column in dict.fromkeys((*required, *names)):
        require_columns(f"{name}:1", names, {"RecBole's name for it": column})
    return AtomicFile(path, types)


def _fields(types: dict[str, str], id_name: str) -> tuple[FieldSchema, ...]:
    def kind(column: str, type: str) -> FieldKind | None:
        titled = type == "token_seq" and column.endswith(("title", "name"))
        return "title" if titled else KINDS[type]

    kinds = {column: kind(column, type) for column, type in types.items() if column != id_name}
    return tuple(FieldSchema(column, k) for column, k in kinds.items() if k is not None)
