"""The data report: what `prepare` ends with. Figures (JSON), a page (Markdown) and plots (PNG) of the day's data.

It is made of the artefacts that are there, and says which are missing or were made from other tables.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beam_jobs import (
    catalogue_counts,
    day_events,
    mutual_information,
    session_cooccurrence,
    title_neighbours,
    window_events,
)
from beam_jobs.day_events import Window
from pipeline import catalogue, data_figures, data_page, data_plots, data_warnings, sequences
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config, ReportConfig
from pipeline.data_figures import days_of
from pipeline.data_samples import USERS, Log, compare_days
from pipeline.drift import Line
from pipeline.errors import ArtifactError, ConfigError
from pipeline.storage import Location
from pipeline.tables import Tables

KIND, VERSION, FOLDER = "data_report", 1, "report"
PREVIOUS = "previous"
READS = {
    day_events.KIND: day_events.VERSION,
    window_events.KIND: window_events.VERSION,
    catalogue_counts.KIND: catalogue_counts.VERSION,
    catalogue.KIND: catalogue.VERSION,
    sequences.KIND: sequences.VERSION,
    mutual_information.KIND: mutual_information.VERSION,
    session_cooccurrence.KIND: session_cooccurrence.VERSION,
    title_neighbours.KIND: title_neighbours.VERSION,
}
"""The artefacts a report reads, each after those it was made from."""


@dataclass(frozen=True)
class Sources:
    """What a report is made of. prepared: the artefacts of the jobs; missing: why one cannot be told of."""

    tables: Tables
    window: Window | None
    prepared: dict[str, Artifact]
    missing: dict[str, str]

    @classmethod
    def find(cls, config: Config) -> "Sources":
        """Raises ArtifactError when there are no tables."""
        tables, prepared, missing = Tables.read(config.tables_dir), dict[str, Artifact](), dict[str, str]()
        window = _window(config, tables)
        for kind, version in READS.items():
            try:
                artifact = open_artifact(config.prepared_dir(kind), kind, version)
            except ArtifactError:
                missing[kind] = "not made"
                continue
            inputs = artifact.manifest["spec"]["inputs"]
            others = [n for n in inputs if n in missing or (n in prepared and prepared[n].fingerprint != inputs[n])]
            if kind == day_events.KIND and window is None:
                missing[kind] = "made from other tables"
            elif others:
                missing[kind] = f"made from other {others[0].replace('_', ' ')}"
            else:
                prepared[kind] = artifact
        return cls(tables, window, prepared, missing)

    def data(self) -> dict[str, Any]:
        """What makes this report another one than the last: the tables, and the dates of the window."""
        told = {} if self.window is None else self.window.artifact.counts
        days = [told.get("first_day"), told.get("last_day")]
        return {"tables": self.tables.artifact.fingerprint, "days": days}

    def vocabularies(self) -> Vocabularies | None:
        found = self.prepared.get(catalogue.KIND)
        return None if found is None else Vocabularies.read(found.path)


def _window(config: Config, tables: Tables) -> Window | None:
    """The window of coded days, if it is of these tables."""
    try:
        window = Window.read(config)
        wanted = day_events.days_of(tables.days, config.prepare)
    except (ArtifactError, ConfigError):  # not made, or of dates that the tables have no event of
        return None
    coded = {day: artifact.manifest["spec"]["inputs"]["events"] for day, artifact in days_of(window).items()}
    return window if coded == {day: tables.day_fingerprint(day) for day in wanted} else None


@dataclass(frozen=True)
class Previous:
    """The last report on other data: its figures, and in which report's folder its samples lie."""

    fingerprint: str
    figures: dict[str, Any]
    report: Artifact
    folder: str

    def log(self) -> Log:
        return Log.read(self.report, self.folder)


def previous(path: Location, data: dict[str, Any]) -> Previous | None:
    """A report on the same data, or one that had nothing to compare, passes on the one that it was compared with."""
    try:
        report = open_artifact(path, KIND, VERSION)
    except ArtifactError:
        return None
    figures = json.loads(report.file("report.json").read_text(encoding="utf-8"))
    before = figures.pop(PREVIOUS)
    if figures["data"] != data and USERS in report.manifest["files"]:
        return Previous(report.fingerprint, figures, report, "")
    inputs = report.manifest["spec"]["inputs"]
    return None if before is None else Previous(inputs[PREVIOUS], before, report, f"{PREVIOUS}/")


def run(config: Config) -> Artifact:
    """Write the report unless it is current. Raises ArtifactError when there are no tables."""
    sources, path = Sources.find(config), config.prepared_dir(FOLDER)
    before = previous(path, sources.data())
    inputs = {"tables": sources.tables.artifact.fingerprint}
    inputs |= {kind: artifact.fingerprint for kind, artifact in sources.prepared.items()}
    if before is not None:
        inputs[PREVIOUS] = before.fingerprint
    spec = Spec(KIND, VERSION, inputs, {"report": config.report.model_dump(), "missing": sources.missing})
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        figures = write(draft.dir, sources, before, config.report)
        draft.counts.update(plots=len(figures["plots"]), warnings=len(figures["warnings"]))
    return open_artifact(path, KIND, VERSION)


def write(folder: Path, sources: Sources, before: Previous | None, limits: ReportConfig) -> dict[str, Any]:
    """Write report.json, report.md, the plots, and the samples that the next report compares with."""
    vocabularies = sources.vocabularies()
    figures = {"data": sources.data(), "limits": limits.model_dump(), **build(sources, vocabularies)}
    log = None if vocabularies is None else Log.of(sources.tables, vocabularies)
    old = None if before is None else before.log()
    for samples, place in ((log, folder), (old, folder / PREVIOUS)):
        if samples is not None:
            place.mkdir(exist_ok=True)
            samples.write(place)
    figures["drift"] = _drift(sources, log, old, limits)
    figures["warnings"] = data_warnings.warnings(figures)
    figures["plots"] = data_plots.write(folder, figures)
    figures[PREVIOUS] = None if before is None else before.figures
    (folder / "report.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "report.md").write_text(data_page.markdown(figures), encoding="utf-8")
    return figures


def build(sources: Sources, vocabularies: Vocabularies | None) -> dict[str, Any]:
    """Every figure but the drift, as JSON values; what rests on a missing artefact is None."""
    tables, prepared = sources.tables, sources.prepared
    counts = tables.artifact.counts
    sessions, matrix = (prepared.get(job.KIND) for job in (session_cooccurrence, mutual_information))
    gap = None if sessions is None else sessions.config["session"]["gap_seconds"]
    spreads: dict[str, Any] = {}
    if sequences.KIND in prepared:
        spreads = data_figures.histories(prepared[sequences.KIND].locations("part-"), gap)
    return {
        "missing": sources.missing,
        "imported": {name: counts[name] for name in ("events", "first_event", "last_event")},
        "rows": data_figures.source_rows(tables.artifact),
        "events_a_day": None if sources.window is None else data_figures.events_a_day(sources.window),
        "users": _users(counts, vocabularies),
        "items": _items(counts, vocabularies),
        "popularity": None if vocabularies is None else data_figures.popularity(vocabularies.items.counts),
        "top_items": None if vocabularies is None else data_figures.top_items(vocabularies.items, tables),
        "histories": spreads.get("users"),
        "sessions": sessions and {**sessions.counts, "gap_seconds": gap, "events": spreads.get("sessions")},
        "fields": data_figures.fields(tables, vocabularies),
        "mutual_information": matrix and data_figures.mutual_information(matrix),
        "counters": {"tables": counts, **{kind: artifact.counts for kind, artifact in prepared.items()}},
    }


def _users(counts: dict[str, Any], vocabularies: Vocabularies | None) -> dict[str, int | None]:
    told = {} if vocabularies is None else vocabularies.artifact.counts
    kept = None if vocabularies is None else len(vocabularies.users.values)
    return {"listed": counts["users"], "kept": kept, "left_out": told.get("users_dropped")}


def _items(counts: dict[str, Any], vocabularies: Vocabularies | None) -> dict[str, int | None]:
    if vocabularies is None:
        return {"listed": counts["items"]}
    told, known = vocabularies.artifact.counts, len(vocabularies.items.values)
    trained = int(np.count_nonzero(vocabularies.items.counts))
    return {
        "listed": counts["items"],
        "known": known,
        "trained": trained,
        "cold": known - trained,
        "outside_catalogue": told.get("items_outside_catalogue"),
        "dropped": told.get("items_dropped"),
    }


def _drift(sources: Sources, log: Log | None, old: Log | None, limits: ReportConfig) -> dict[str, Any]:
    """The comparisons there can be: `days` and `report`, each None or with its lines."""
    found: dict[str, Any] = {"days": None, "report": None}
    days = {} if sources.window is None else days_of(sources.window)
    if len(days) > 1:
        newest, before, lines = compare_days(sources.tables, days, limits.seen_days)
        found["days"] = {"newest": newest, "before": before, "lines": _lines(lines, limits)}
    if log is not None and old is not None:
        found["report"] = {"lines": _lines(log.compare(old), limits)}
    return found


def _lines(lines: list[Line], limits: ReportConfig) -> list[dict[str, Any]]:
    return [{**vars(line), "exceeds": line.exceeds(limits)} for line in lines]
