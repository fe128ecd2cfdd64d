"""Raw logs into the canonical tables: the first stage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import demo_logs, import_movielens, import_recbole, import_table
from pipeline.artifacts import Artifact, Spec, current, file_digest, open_artifact
from pipeline.config import Config, SourceConfig
from pipeline.errors import InputError
from pipeline.tables import KIND, VERSION, TablesWriter, write_tables


@dataclass(frozen=True)
class Importer:
    """A source format: which files it reads (name -> path), and how they become tables."""

    files: Callable[[SourceConfig], dict[str, Path]]
    read_into: Callable[[TablesWriter, dict[str, Path], SourceConfig], None]


IMPORTERS = {
    "movielens": Importer(import_movielens.files, import_movielens.read_into),
    "recbole": Importer(import_recbole.files, import_recbole.read_into),
    "table": Importer(import_table.files, import_table.read_into),
    "demo": Importer(demo_logs.files, demo_logs.read_into),
}


def import_source(config: Config) -> Artifact:
    """Import `config.source` into `config.tables_dir`, unless the tables there are of the same files and settings.

    The artefact's counts say what became of every record: `events`, `items`, `users`, `rejected` by reason,
    `below_minimum_rating` and `blank_lines` add up to the `records` of all files. A record is a line, or the lines of
    one quoted CSV value. Exactly equal events are kept.

    Raises: InputError when a file is missing or not what it should be; ConfigError when settings do not fit.
    """
    source = config.source
    importer = IMPORTERS[source.format]
    found = importer.files(source)
    spec = Spec(KIND, VERSION, {name: _digest(path) for name, path in found.items()}, _settings(source))
    finished = current(config.tables_dir, spec)
    if finished is None:
        with write_tables(config.tables_dir, spec) as writer:
            importer.read_into(writer, found, source)
        finished = open_artifact(config.tables_dir, KIND, VERSION)
    return finished


def _settings(source: SourceConfig) -> dict[str, Any]:
    """The settings the tables depend on; where the files lie is not one of them."""
    settings: dict[str, Any] = {"format": source.format}
    if source.format == "demo":
        return settings | {"demo": source.demo.model_dump(), "generator": demo_logs.GENERATOR_VERSION}
    settings["minimum_rating"] = source.minimum_rating
    return settings | ({"table": source.table.model_dump()} if source.format == "table" else {})


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Cure: check its permissions") from None
