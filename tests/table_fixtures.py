"""Canonical tables from Arrow tables, written as an import would write them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline import write_catalogue
from pipeline.artifacts import Artifact, Spec, open_artifact
from pipeline.columns import TIME_END
from pipeline.config_source import Partition
from pipeline.tables import EVENTS_KIND, EVENTS_VERSION, KIND, VERSION, Schema, Tables, events_dir
from pipeline.write_events import events_folder, write_events
from pipeline.write_tables import write_tables


def make_tables(
    path: Path,
    events: Mapping[str, pa.Table | Sequence[pa.Table]],
    schema: Schema | None = None,
    items: pa.Table | None = None,
    users: pa.Table | None = None,
    partition: Partition = "none",
) -> Tables:
    """Write the tables at `path`; events hold the table of each source file, or the pieces it comes in."""
    spec = Spec(write_catalogue.KIND, write_catalogue.VERSION)
    with write_catalogue.write_catalogue(path.parent / "catalogue", spec) as writer:
        writer.write(schema or Schema(), items, users)
    catalogue = open_artifact(path.parent / "catalogue", spec.kind, spec.version)
    files = {name: make_events(events_dir(path), name, pieces, partition) for name, pieces in events.items()}
    inputs = {"catalogue": catalogue.fingerprint, **{name: file.fingerprint for name, file in files.items()}}
    write_tables(path, Spec(KIND, VERSION, inputs), catalogue, files)
    return Tables.read(path)


def make_events(folder: Path, name: str, events: pa.Table | Sequence[pa.Table], partition: Partition) -> Artifact:
    """Write the events of one source file."""
    pieces = [events] if isinstance(events, pa.Table) else events
    digest = hashlib.sha256(repr(pa.concat_tables(pieces).to_pydict()).encode()).hexdigest()
    spec = Spec(EVENTS_KIND, EVENTS_VERSION, {"file": digest}, {"partition": partition})
    with write_events(folder / events_folder(spec), spec, name, partition, limit=TIME_END) as writer:
        for piece in pieces:
            writer.account.outcome.kept += len(piece)
            writer.add(piece)
    return open_artifact(folder / events_folder(spec), EVENTS_KIND, EVENTS_VERSION)
