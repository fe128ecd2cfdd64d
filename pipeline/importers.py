"""Raw logs into the canonical tables: the first stage.

A source file of events is read once, into an artefact of its own (pipeline/write_events.py); the catalogue is read when
one of its files changes (pipeline/write_catalogue.py); the tables join them (pipeline/write_tables.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import demo_logs, import_movielens, import_recbole, import_table, write_catalogue
from pipeline.artifacts import Artifact, Spec, current, open_artifact
from pipeline.config import Config
from pipeline.config_source import SourceConfig
from pipeline.source_files import SourceFiles, digests
from pipeline.tables import EVENTS_KIND, EVENTS_VERSION, KIND, VERSION, events_dir
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_events import EventsWriter, events_folder, write_events
from pipeline.write_tables import write_tables


@dataclass(frozen=True)
class Importer:
    """A source format: which files it reads, and how they become tables."""

    files: Callable[[SourceConfig], SourceFiles]
    read_catalogue: Callable[[CatalogueWriter, dict[str, Path], SourceConfig], None]
    read_events: Callable[[EventsWriter, Path, SourceConfig], None]


IMPORTERS = {
    "movielens": Importer(import_movielens.files, import_movielens.read_catalogue, import_movielens.read_events),
    "recbole": Importer(import_recbole.files, import_recbole.read_catalogue, import_recbole.read_events),
    "table": Importer(import_table.files, import_table.read_catalogue, import_table.read_events),
    "demo": Importer(demo_logs.files, demo_logs.read_catalogue, demo_logs.read_events),
}


def import_source(config: Config) -> Artifact:
    """Import `config.source` into `config.tables_dir`, reading only the files that are new, changed or read otherwise.

    The artefact's counts say what became of every record: `events`, `items`, `users`, `rejected` by reason,
    `below_minimum_rating` and `blank_lines` add up to the `records` of all files. A record is a line, or the lines of
    one quoted CSV value. Exactly equal events are kept.

    Raises: InputError when a file is missing or not what it should be; ConfigError when settings do not fit.
    """
    source, path = config.source, config.tables_dir
    found = IMPORTERS[source.format].files(source)
    digest = digests(found)
    catalogue = _catalogue(path.parent / "catalogue", found.catalogue, digest, source)
    files = tqdm(found.events.items(), desc="event files", unit="file", delay=1.0)
    events = {name: _events(events_dir(path), name, file, digest[name], source) for name, file in files}
    inputs = {f"events/{name}": artifact.fingerprint for name, artifact in events.items()}
    spec = Spec(KIND, VERSION, {"catalogue": catalogue.fingerprint, **inputs}, {"format": source.format})
    return current(path, spec) or write_tables(path, spec, catalogue, events)


def _catalogue(path: Path, files: dict[str, Path], digest: dict[str, str], source: SourceConfig) -> Artifact:
    """The items and users of the source, read unless they are there."""
    inputs = {name: digest[name] for name in files}
    spec = Spec(write_catalogue.KIND, write_catalogue.VERSION, inputs, _catalogue_settings(source))
    if current(path, spec) is None:
        with write_catalogue.write_catalogue(path, spec) as writer:
            IMPORTERS[source.format].read_catalogue(writer, files, source)
    return open_artifact(path, spec.kind, spec.version)


def _events(folder: Path, name: str, file: Path, digest: str, source: SourceConfig) -> Artifact:
    """The events of one file, read unless they are there."""
    settings = _event_settings(source) | {"suffixes": file.suffixes[-2:]}
    spec = Spec(EVENTS_KIND, EVENTS_VERSION, {"file": digest}, settings)
    path = folder / events_folder(spec)
    if current(path, spec) is None:
        with write_events(path, spec, name, source.partition) as writer:
            IMPORTERS[source.format].read_events(writer, file, source)
    return open_artifact(path, spec.kind, spec.version)


def _catalogue_settings(source: SourceConfig) -> dict[str, Any]:
    """The settings that items and users depend on."""
    settings: dict[str, Any] = {"format": source.format}
    if source.format == "table":
        settings["table"] = import_table.catalogue_settings(source.table)
    return settings | (demo_logs.settings(source) if source.format == "demo" else {})


def _event_settings(source: SourceConfig) -> dict[str, Any]:
    """The settings that the events of a file depend on."""
    settings: dict[str, Any] = {"format": source.format, "partition": source.partition}
    if source.format == "demo":
        return settings | demo_logs.settings(source)
    settings["minimum_rating"] = source.minimum_rating
    if source.format == "table":
        settings["table"] = import_table.event_settings(source.table)
    return settings
