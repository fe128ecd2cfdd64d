"""The events of source files that were read before, found by what was read and how; what is new is read."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import demo_logs, import_table
from pipeline.artifacts import Artifact, Spec, current, open_artifact
from pipeline.config_source import SourceConfig
from pipeline.errors import ArtifactError
from pipeline.event_parts import DAY_SECONDS
from pipeline.source_files import check_unchanged
from pipeline.split import parse_time
from pipeline.storage import Location
from pipeline.tables import EVENTS_KIND, EVENTS_VERSION, Tables, events_dir
from pipeline.write_events import EventsWriter, events_folder, write_events

ReadEvents = Callable[[EventsWriter, Path, SourceConfig], None]
"""Gives the events of a file to the writer."""


class EventLibrary:
    """Finds the events of a file, an artefact in `events_dir(tables)`, or reads them into one.

    What is in the future depends on the clock. By that of the machine, a file keeps the verdict of the day it was read:
    the event of a wrong clock does not become right by waiting. With `source.now` the events are those that reading the
    file at that moment gives; those of `previous`, the tables so far, serve wherever the moment makes no difference.
    """

    def __init__(self, tables: Location, source: SourceConfig, previous: Tables | None) -> None:
        self._folder, self._source, self._previous = events_dir(tables), source, previous
        now = time.time() if source.now is None else parse_time(source.now, "source.now")
        self._limit = int(now + source.max_future_days * DAY_SECONDS)
        self._given_limit = None if source.now is None else self._limit

    def find(self, file: Path, digest: str) -> Artifact | None:
        """The events of a file with this SHA-256; None when they have to be read."""
        spec = self._spec(file, digest)
        return current(self._folder / events_folder(spec), spec) or self._same_at_another_moment(spec)

    def read(self, name: str, file: Path, digest: str, read: ReadEvents) -> Artifact:
        """Read the events of a file with this SHA-256. Raises InputError when it changes meanwhile."""
        spec = self._spec(file, digest)
        path = self._folder / events_folder(spec)
        source = self._source
        with write_events(path, spec, name, source.partition, self._limit, source.keep_negatives) as writer:
            read(writer, file, source)
            check_unchanged(name, file, digest)
        return open_artifact(path, spec.kind, spec.version)

    def _spec(self, file: Path, digest: str) -> Spec:
        source = self._source
        settings: dict[str, Any] = {"format": source.format, "partition": source.partition}
        if source.format == "demo":
            return Spec(EVENTS_KIND, EVENTS_VERSION, {"file": digest}, settings | demo_logs.settings(source))
        settings |= {"suffixes": file.suffixes[-2:], "minimum_rating": source.minimum_rating}
        if source.keep_negatives:
            settings["keep_negatives"] = True
        settings |= {"max_future_days": source.max_future_days, "limit": self._given_limit}
        if source.format == "table":
            settings["table"] = import_table.event_settings(source.table)
        return Spec(EVENTS_KIND, EVENTS_VERSION, {"file": digest}, settings)

    def _same_at_another_moment(self, spec: Spec) -> Artifact | None:
        """Events of the previous tables that another limit would give as well: none lies between the two."""
        artifact = self._known.get(_but_for_limit(spec.as_json())) if _was_given(spec.config) else None
        if artifact is None:
            return None
        last, future = artifact.counts["last_event"], artifact.counts["earliest_future"]
        same = (last is None or last <= self._limit) and (future is None or future > self._limit)
        return artifact if same else None

    @cached_property
    def _known(self) -> dict[str, Artifact]:
        """The events of the previous tables that were read with `source.now`."""
        known: dict[str, Artifact] = {}
        if self._previous is None:
            return known
        for file in self._previous.event_files:
            with suppress(ArtifactError):
                artifact = self._previous.open_events(file)
                if _was_given(artifact.config):
                    known[_but_for_limit(artifact.manifest["spec"])] = artifact
        return known


def _was_given(settings: dict[str, Any]) -> bool:
    """Whether events were read with `source.now`."""
    return settings.get("limit") is not None


def _but_for_limit(spec: dict[str, Any]) -> str:
    settings = {name: value for name, value in spec["config"].items() if name != "limit"}
    return events_folder(Spec(spec["kind"], spec["version"], spec["inputs"], settings))
