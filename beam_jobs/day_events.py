"""Beam job: the event log -> the events of each day, coded once: the only job that touches every string of the log.

    prepared/day_events/window.json          the days of the window, each with the fingerprint of its events
    prepared/day_events/date=D/events-P.arrow   the day's events of the users of partition P, user after user, in
                                             order; user_id and item_id as dictionaries

A day is an artefact of its own. It is written again only when the log has other events of that date than it had;
all other jobs count codes, and hash no string twice (docs/adr/0013-days-are-coded-once.md).
"""

import json
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs import blocks
from beam_jobs.batch_files import totals, write_batches
from beam_jobs.events import STRINGS, in_order, repeats
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.shuffle import Shuffle, shuffle
from pipeline.artifacts import Artifact, Draft, Spec, create, current, open_artifact
from pipeline.config import Config, PrepareConfig
from pipeline.errors import ArtifactError, ConfigError, JobError
from pipeline.storage import Location, glob, in_parallel
from pipeline.tables import WHOLE_LOG, Tables

KIND, VERSION = "day_events", 1
DAY_KIND, DAY_VERSION = "events_of_day", 2
DAYS_AT_ONCE = 128
"""Days that one pipeline codes: each keeps a lock file open until the end, and a process may have only so many."""


@dataclass(frozen=True)
class Window:
    """The days that the jobs count together, ascending; `days` holds the coded events of each."""

    artifact: Artifact
    days: tuple[Artifact, ...]
    partitions: int

    @property
    def last_day(self) -> date:
        """The day that the ages of a decay count from: the last of the window."""
        return date.fromisoformat(self.artifact.counts["last_day"])

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of the events of each day, by date."""
        return {_date(day): day.fingerprint for day in self.days}

    def files(self, without: Container[str] = ()) -> dict[int, list[str]]:
        """The files of each partition of users that has events, the days ascending, some dates left out."""
        files: dict[int, list[str]] = {}
        for day in self.days:
            if _date(day) not in without:
                for path in day.locations("events-"):
                    files.setdefault(part_number(path), []).append(str(path))
        return files

    @classmethod
    def read(cls, config: Config) -> "Window":
        """Open the window and its days. Raises ArtifactError when one is missing or not the one that was counted."""
        artifact = open_artifact(config.prepared_dir(KIND), KIND, VERSION)
        return cls(artifact, tuple(_days(config, artifact)), config.prepare.partitions)


def days_of(known: Iterable[str], prepare: PrepareConfig) -> list[str]:
    """The days of the window among those the log has, ascending.

    Raises ConfigError when the log is not cut by day, or has no event in the window.
    """
    known = sorted(known)
    if prepare.days is None and prepare.last_day is None:
        return known
    if known == [WHOLE_LOG]:
        raise ConfigError(
            "`prepare.days` and `prepare.last_day` need a log that is cut by day. "
            "Cure: set `source.partition` to `day` and import again"
        )
    last = known[-1] if prepare.last_day is None else prepare.last_day.isoformat()
    first = "" if prepare.days is None else (date.fromisoformat(last) - timedelta(days=prepare.days - 1)).isoformat()
    inside = [day for day in known if first <= day <= last]
    if not inside:
        raise ConfigError(
            f"no event from {first or 'the beginning'} to {last}; the log has {known[0]} to {known[-1]}. "
            "Cure: set `prepare.last_day` and `prepare.days` to cover some of it"
        )
    return inside


# ---- Beam


@dataclass(frozen=True)
class Source:
    """One row group of one day's part file."""

    day: int
    path: str
    row_group: int


def split_by_user(source: Source, partitions: int, between: Shuffle) -> Iterator[tuple[int, bytes]]:
    """A row group -> a block per partition, under day * partitions + partition. A user's events share a partition."""
    table = blocks.read_row_group((source.path, source.row_group), strings=STRINGS)
    count("events", len(table))
    partition = blocks.partition_of(table["user_id"].combine_chunks(), partitions)
    for number, part in blocks.split(table, partition, partitions):
        yield source.day * partitions + number, between.put(part)


class WriteDay(beam.DoFn):
    """(day * partitions + partition, blocks) -> events-<partition>.arrow in the folder of the day."""

    def __init__(self, folders: Sequence[Location], partitions: int, keep_duplicates: bool, between: Shuffle) -> None:
        self.folders, self.partitions, self.keep_duplicates = list(map(str, folders)), partitions, keep_duplicates
        self.between = between

    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        day, partition = divmod(element[0], self.partitions)
        table = in_order(blocks.concat(map(self.between.get, element[1])))
        repeated = repeats(table)
        if not self.keep_duplicates:
            table = table.filter(pa.array(~repeated))
        counts = {"events": str(len(table)), "duplicate_events": str(np.count_nonzero(repeated))}
        path = f"{self.folders[day]}/{part_name(partition)}"
        blocks.write_part(path, lambda aside: write_batches(aside, table.schema, [table], counts))


def part_name(partition: int) -> str:
    """The file of a partition of users, in the artefact of a day or of a window."""
    return f"events-{partition:05d}.arrow"


def _date(day: Artifact) -> str:
    return day.path.name.removeprefix("date=")


def part_number(path: Location) -> int:
    """The partition of a file of that name."""
    return int(path.name.removeprefix("events-").removesuffix(".arrow"))


# ---- the stage


def _day_spec(config: Config, tables: Tables, day: str) -> Spec:
    return Spec(
        DAY_KIND,
        DAY_VERSION,
        inputs={"events": tables.day_fingerprint(day)},
        config={"partitions": config.prepare.partitions, "duplicate_events": config.prepare.duplicate_events},
    )


def _day_dir(config: Config, day: str) -> Location:
    return config.prepared_dir(KIND) / f"date={day}"


def _days(config: Config, window: Artifact) -> Iterator[Artifact]:
    listed = json.loads(window.file("window.json").read_text(encoding="utf-8"))["days"]
    for artifact, fingerprint in zip(_open_days(config, listed), listed.values(), strict=True):
        if artifact.fingerprint != fingerprint:
            raise ArtifactError(f"{artifact.path} was coded anew since. Cure: run `twotower prepare` again")
        yield artifact


def _open_days(config: Config, days: Iterable[str]) -> list[Artifact]:
    return in_parallel(lambda day: open_artifact(_day_dir(config, day), DAY_KIND, DAY_VERSION), days)


def code_days(config: Config, tables: Tables, days: Sequence[str], pipeline_args: Sequence[str]) -> None:
    """Write the artefacts of some days with one pipeline; all are published at its end."""
    partitions = config.prepare.partitions
    with ExitStack() as stack:
        drafts = [stack.enter_context(create(_day_dir(config, day), _day_spec(config, tables, day))) for day in days]
        sources = [
            Source(number, *row_group)
            for number, day in enumerate(days)
            for row_group in blocks.row_groups(tables.days[day])
        ]
        between = stack.enter_context(shuffle(drafts[0], pipeline_args))
        keep_duplicates = config.prepare.duplicate_events == "keep"
        write = WriteDay([draft.target for draft in drafts], partitions, keep_duplicates, between)
        with progress(KIND, [draft.target for draft in drafts], "events-*", partitions * len(days)):
            run_pipeline(
                lambda pipeline: (
                    pipeline
                    | "row groups" >> beam.Create(sources)
                    | beam.FlatMap(split_by_user, partitions, between).with_output_types(tuple[int, bytes])
                    | beam.GroupByKey()
                    | beam.ParDo(write)
                ),
                pipeline_args,
            )
        for day, draft in zip(days, drafts, strict=True):
            draft.counts.update(_counts(draft))
            _check_complete(day, tables, draft.counts, keep_duplicates)


def _counts(draft: Draft) -> dict[str, int]:
    return totals(glob(draft.target, "events-*.arrow"), "events", "duplicate_events")


def _check_complete(day: str, tables: Tables, counts: dict[str, int], keep_duplicates: bool) -> None:
    """Every event of the log must have come through the shuffle: a runner that loses some must not go unnoticed."""
    logged = sum(blocks.footer(path).num_rows for path in tables.days[day])
    written = counts["events"] + (0 if keep_duplicates else counts["duplicate_events"])
    if written != logged:
        raise JobError(
            f"{KIND}: the log has {logged} events of {day}, but {written} came out of Beam's shuffle. Nothing was "
            "published. Cure: give workers on other machines a `workdir` that they reach by the same name "
            "(docs/runners.md); else run it again, and report the runner and its version if this repeats"
        )


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Code the days of the window that are not, then write the window, unless it is current.

    Raises ConfigError when the window holds no day.
    """
    tables = Tables.read(config.tables_dir)
    prepare = config.prepare
    days = days_of(tables.days, prepare)
    found = in_parallel(lambda day: current(_day_dir(config, day), _day_spec(config, tables, day)), days)
    stale = [day for day, artifact in zip(days, found, strict=True) if artifact is None]
    for first in range(0, len(stale), DAYS_AT_ONCE):
        code_days(config, tables, stale[first : first + DAYS_AT_ONCE], pipeline_args)
    coded = dict(zip(days, _open_days(config, days), strict=True))
    fingerprints = {day: artifact.fingerprint for day, artifact in coded.items()}
    path, spec = config.prepared_dir(KIND), Spec(KIND, VERSION, inputs=fingerprints)
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        (draft.dir / "window.json").write_text(json.dumps({"days": fingerprints}, indent=1), encoding="utf-8")
        last_event: str = tables.artifact.counts["last_event"]
        draft.counts |= {
            "first_day": tables.artifact.counts["first_event"][:10] if days == [WHOLE_LOG] else days[0],
            "last_day": last_event[:10] if days == [WHOLE_LOG] else days[-1],
            "days": len(days),
            "days_coded": len(stale),
            "events": sum(artifact.counts["events"] for artifact in coded.values()),
            "duplicate_events": sum(artifact.counts["duplicate_events"] for artifact in coded.values()),
        }
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
