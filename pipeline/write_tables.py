"""The tables artefact: it joins the catalogue and the events of every source file, and publishes them together."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts import ORPHAN_AGE, Artifact, Draft, Spec, create, open_artifact
from pipeline.errors import ArtifactError, InputError
from pipeline.outcome import Outcome
from pipeline.rejects import Rejects
from pipeline.storage import Location, is_remote, read_text, remove, subfolders, untouched
from pipeline.tables import KIND, VERSION, EventFile, Tables, events_dir
from pipeline.write_events import ITEM_COUNTS


def write_tables(path: Location, spec: Spec, catalogue: Artifact, events: Mapping[str, Artifact]) -> Artifact:
    """Publish the tables of a catalogue and the events of source files (name -> artefact in `events_dir(path)`).

    Raises: InputError when no event is left.
    """
    _check_events(events)
    previous = previous_tables(path)
    with create(path, spec) as draft:
        for name in ("items.parquet", "users.parquet", "schema.json"):
            shutil.copyfile(catalogue.file(name), draft.dir / name)
        files = _event_files(catalogue, events, previous)
        document = {"catalogue": catalogue.fingerprint, "files": [asdict(file) for file in files]}
        (draft.dir / "events.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        _copy_rejects(draft, catalogue, events)
        draft.counts |= _counts(catalogue, events, files)
    return open_artifact(path, KIND, VERSION)


def remove_unnamed_events(tables: Artifact) -> None:
    """Remove the events that neither these tables nor those before them name.

    To be called once the tables are published, by the only process that imports: a killed import then leaves the events
    of the tables that stay, and a reader that opened the tables before can finish. In an object store, where another
    import cannot be kept out, events stay for ORPHAN_AGE.
    """
    named: set[str] = set()
    for run in (tables.manifest["run"], tables.manifest.get("previous")):
        with suppress(FileNotFoundError):  # there is none before, or it was of an older version
            document = json.loads(read_text(tables.path / str(run) / "events.json"))
            named |= {file["artifact"] for file in document["files"]}
    for folder in subfolders(events_dir(tables.path), ""):
        if folder.name not in named and (not is_remote(folder) or untouched(folder, ORPHAN_AGE)):
            remove(folder)


def previous_tables(path: Location) -> Tables | None:
    """The tables at `path`; None when there are none that this code reads."""
    try:
        return Tables.read(path)
    except ArtifactError:
        return None


def _check_events(events: Mapping[str, Artifact]) -> None:
    if any(artifact.counts["events"] for artifact in events.values()):
        return
    outcomes = [Outcome.from_json(name, artifact.counts["outcome"]) for name, artifact in events.items()]
    if all(outcome.empty for outcome in outcomes):
        outcomes[0].require_records()
    raise InputError("no event is left. Cure: lower `source.minimum_rating`, or name files that hold events")


def _event_files(catalogue: Artifact, events: Mapping[str, Artifact], previous: Tables | None) -> list[EventFile]:
    """What the tables say of each file. Items are looked up only for events that the tables before did not have."""
    known: dict[str, int] = {}
    if previous is not None and _catalogue_of(previous) == catalogue.fingerprint:
        known = {file.fingerprint: file.outside_catalogue for file in previous.event_files}
    items = pq.read_table(catalogue.file("items.parquet"), columns=["item_id"])["item_id"].combine_chunks()
    for artifact in events.values():
        if artifact.fingerprint not in known:
            known[artifact.fingerprint] = _outside(pq.read_table(artifact.file(ITEM_COUNTS)), items)
    return [
        EventFile(name, artifact.path.name, artifact.fingerprint, _days(artifact), known[artifact.fingerprint])
        for name, artifact in events.items()
    ]


def _catalogue_of(tables: Tables) -> str:
    return json.loads(tables.artifact.file("events.json").read_text(encoding="utf-8"))["catalogue"]


def _outside(counts: pa.Table, items: pa.Array) -> int:
    """Events of items that are not among `items`."""
    unknown = pc.invert(pc.is_in(counts["item_id"], value_set=items))
    return pc.sum(counts["events"].filter(unknown)).as_py() or 0


def _days(artifact: Artifact) -> dict[str, list[str]]:
    """The SHA-256 of each day's parts."""
    days: dict[str, list[str]] = {}
    for name, entry in sorted(artifact.manifest["files"].items()):
        if name.startswith("date="):
            days.setdefault(name.partition("/")[0].removeprefix("date="), []).append(entry["sha256"])
    return days


def _copy_rejects(draft: Draft, catalogue: Artifact, events: Mapping[str, Artifact]) -> None:
    with Rejects(draft.dir / "rejects.csv") as rejects:
        rejects.copy(catalogue.file("rejects.csv"))
        for name, artifact in events.items():
            rejects.copy(artifact.file("rejects.csv"), name)


def _counts(catalogue: Artifact, events: Mapping[str, Artifact], files: Iterable[EventFile]) -> dict[str, Any]:
    of_events = [Outcome.from_json(name, artifact.counts["outcome"]) for name, artifact in events.items()]
    outcomes = [Outcome.from_json(name, data) for name, data in catalogue.counts["outcomes"].items()] + of_events
    counts = [artifact.counts for artifact in events.values() if artifact.counts["events"]]
    filtered = _sum(outcome.filtered for outcome in outcomes)
    return {
        "items": catalogue.counts["items"],
        "users": catalogue.counts["users"],
        "events": sum(count["events"] for count in counts),
        "events_without_catalogue_item": sum(file.outside_catalogue for file in files),
        "first_event": _iso(min(count["first_event"] for count in counts)),
        "last_event": _iso(max(count["last_event"] for count in counts)),
        "records": {outcome.file: outcome.records for outcome in outcomes},
        "files": {o.file: {"kept": o.kept, "filtered": o.filtered, "rejected": o.rejected} for o in outcomes},
        "rejected": _sum(outcome.rejected for outcome in outcomes),
        "below_minimum_rating": filtered.get("below_minimum_rating", 0),
        "blank_lines": filtered.get("blank_lines", 0),
        "noted": _sum(outcome.noted for outcome in outcomes),
        "empty_files": sum(outcome.empty for outcome in of_events),
        "repeated_files": len(events) - len({artifact.path for artifact in events.values()}),
        "ignored_columns": [*catalogue.counts["ignored_columns"], *_ignored(events)],
    }


def _sum(counters: Iterable[Counter[str]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total += counter
    return dict(sorted(total.items()))


def _ignored(events: Mapping[str, Artifact]) -> list[str]:
    """The columns that were not read, each with the first file that has it and how many more do."""
    files: dict[str, list[str]] = {}
    for name, artifact in events.items():
        for column in artifact.counts["ignored_columns"]:
            files.setdefault(column, []).append(name)
    more = {column: f" (and {len(names) - 1} more)" * (len(names) > 1) for column, names in files.items()}
    return [f"{names[0]}:{column}{more[column]}" for column, names in files.items()]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
