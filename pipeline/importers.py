"""Raw logs into the canonical tables: the first stage.

A source file of events is read once, into an artefact of its own (pipeline/event_library.py); the catalogue is read
when one of its files changes (pipeline/write_catalogue.py); the tables join them (pipeline/write_tables.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import demo_logs, import_movielens, import_recbole, import_table, local_disk, storage, write_catalogue
from pipeline.artifacts import Artifact, Spec, current, open_artifact
from pipeline.config import Config
from pipeline.config_source import SourceConfig
from pipeline.errors import ArtifactError
from pipeline.event_library import EventLibrary, ReadEvents
from pipeline.outcome import Outcome
from pipeline.progress import bar
from pipeline.source_files import SourceFiles, check_unchanged, digests
from pipeline.storage import Location
from pipeline.tables import KIND, VERSION, events_dir
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_tables import previous_tables, remove_unnamed_events, write_tables


@dataclass(frozen=True)
class Importer:
    """A source format: which files it reads, and how they become tables."""

    files: Callable[[SourceConfig], SourceFiles]
    read_catalogue: Callable[[CatalogueWriter, dict[str, Path], SourceConfig], None]
    read_events: ReadEvents


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

    Raises: InputError when a file is missing or not what it should be, or too many of its records are bad; ConfigError
    when settings do not fit; ArtifactError while another import into the same local folder is going on.
    """
    source, path = config.source, config.tables_dir
    files = IMPORTERS[source.format].files(source)
    digest = digests(files)
    with _alone(events_dir(path)):
        catalogue = _catalogue(path.parent / "catalogue", files.catalogue, digest, source)
        events = _events(EventLibrary(path, source, previous_tables(path)), files.events, digest, source)
        inputs = {f"events/{name}": artifact.fingerprint for name, artifact in events.items()}
        spec = Spec(KIND, VERSION, {"catalogue": catalogue.fingerprint, **inputs}, {"format": source.format})
        tables = current(path, spec) or write_tables(path, spec, catalogue, events)
        remove_unnamed_events(tables)
    return tables


@contextmanager
def _alone(folder: Location) -> Iterator[None]:
    """Keep other imports out of a local folder of events: they would remove those that no tables name yet."""
    if not isinstance(folder, Path):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with local_disk.locked(folder / local_disk.LOCK) as alone:
        if not alone:
            raise ArtifactError(f"another process is importing into {folder}. Cure: wait for that to end")
        yield


def _events(
    library: EventLibrary, files: dict[str, Path], digest: dict[str, str], source: SourceConfig
) -> dict[str, Artifact]:
    """The events of each file, read unless they are there. Raises InputError when too many records of one are bad."""
    found = storage.in_parallel(lambda name: library.find(files[name], digest[name]), files)
    events = {}
    for name, artifact in bar(zip(files, found, strict=True), "event files", len(files), unit="file", delay=1.0):
        if artifact is None:
            artifact = library.read(name, files[name], digest[name], IMPORTERS[source.format].read_events)
        outcome = Outcome.from_json(name, artifact.counts["outcome"])
        outcome.check(source.max_rejected_share, artifact.location("rejects.csv"))
        events[name] = artifact
    return events


def _catalogue(path: Location, files: dict[str, Path], digest: dict[str, str], source: SourceConfig) -> Artifact:
    """The items and users of the source, read unless they are there."""
    spec = Spec(
        write_catalogue.KIND, write_catalogue.VERSION, {name: digest[name] for name in files}, _settings(source)
    )
    if current(path, spec) is None:
        with write_catalogue.write_catalogue(path, spec) as writer:
            IMPORTERS[source.format].read_catalogue(writer, files, source)
            for name, file in files.items():
                check_unchanged(name, file, digest[name])
    artifact = open_artifact(path, spec.kind, spec.version)
    for name, data in artifact.counts["outcomes"].items():
        outcome = Outcome.from_json(name, data)
        outcome.check(source.max_rejected_share, artifact.location("rejects.csv"))
        outcome.require_records()
    return artifact


def _settings(source: SourceConfig) -> dict[str, Any]:
    """The settings that items and users depend on."""
    settings: dict[str, Any] = {"format": source.format}
    if source.format == "table":
        settings["table"] = import_table.catalogue_settings(source.table)
    return settings | (demo_logs.settings(source) if source.format == "demo" else {})
