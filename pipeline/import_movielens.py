"""MovieLens folders with `::`-separated .dat files (ml-1m; also ml-10m, which has no users.dat).

Items have `title` (the year stays in it), `year` and `genres`; users have `gender`, `age`, `occupation` (the codes of
the data set's README) and `region`, the first character of the zip code: the ten postal zones of the USA. Longer
prefixes would leave a handful of users each.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from pipeline.config_source import SourceConfig
from pipeline.ingest import EventColumns, FieldColumn, ingest_catalogue, ingest_events
from pipeline.read_delimited import Dialect, read_delimited
from pipeline.rejects import Account, Block
from pipeline.source_files import SourceFiles, existing_file, source_folder
from pipeline.tables import FieldSchema, Schema
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_events import EventsWriter

RATINGS, MOVIES, USERS = "ratings.dat", "movies.dat", "users.dat"
ITEM_FIELDS = (FieldSchema("title", "title"), FieldSchema("year", "categorical"), FieldSchema("genres", "multi"))
USER_FIELDS = tuple(FieldSchema(name, "categorical") for name in ("gender", "age", "occupation", "region"))
_CURE = "point `source.path` at a folder with ratings.dat and movies.dat; other files are imported by `format: table`"


def files(source: SourceConfig) -> SourceFiles:
    """The files to import."""
    folder = source_folder(source)
    ratings, movies = (existing_file(folder, name, _CURE) for name in (RATINGS, MOVIES))
    users = {USERS: folder / USERS} if (folder / USERS).exists() else {}
    return SourceFiles({MOVIES: movies, **users}, {RATINGS: ratings})


def read_catalogue(writer: CatalogueWriter, found: dict[str, Path], source: SourceConfig) -> None:
    """Read movies.dat and users.dat."""
    movies, users = writer.account(MOVIES), writer.account(USERS) if USERS in found else None
    items = ingest_catalogue(
        map(_with_year, _blocks(found[MOVIES], movies, ["item_id", "title", "genres"], latin1=True)),
        "item_id",
        "item_id",
        [FieldColumn(field, field.name) for field in ITEM_FIELDS],
        movies,
    )
    people = users and ingest_catalogue(
        map(_with_region, _blocks(found[USERS], users, ["user_id", "gender", "age", "occupation", "zip_code"])),
        "user_id",
        "user_id",
        [FieldColumn(field, field.name) for field in USER_FIELDS],
        users,
    )
    writer.write(Schema(ITEM_FIELDS, USER_FIELDS if users else ()), items, people)


def read_events(writer: EventsWriter, path: Path, source: SourceConfig) -> None:
    """Read ratings.dat."""
    columns = EventColumns("user_id", "item_id", "timestamp", "rating")
    blocks = _blocks(path, writer.account, ["user_id", "item_id", "rating", "timestamp"])
    ingest_events(blocks, columns, source.minimum_rating, writer)


def _blocks(path: Path, account: Account, names: list[str], latin1: bool = False) -> Iterator[Block]:
    dialect = Dialect("::", latin1=latin1)
    return read_delimited(path, account, dialect, names, names, header=False)


def _with_year(block: Block) -> Block:
    """Add `year`, the four digits in brackets that end the title."""
    found = pc.extract_regex(block.columns["title"], r"\((?P<year>\d{4})\)\s*$")
    return block.with_column("year", pc.struct_field(found, "year"))


def _with_region(block: Block) -> Block:
    zip_code = pc.utf8_trim_whitespace(block.columns["zip_code"])
    return block.with_column("region", pc.utf8_slice_codeunits(zip_code, 0, 1))
