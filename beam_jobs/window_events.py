"""Beam job: the coded days -> the events of the window, all in one numbering of its items.

    prepared/window_events/items.arrow      item_id: the distinct items, ascending; an item's place is its code
    prepared/window_events/events-P.arrow   a row per user of partition P, ascending by id: user_id, items, timestamps

The window is moved on: the one before loses the days that left it or were coded again, and gains the days that it
does not have. Only their strings are hashed; the rest is integers. What results is the same, whichever window was
there before (docs/adr/0019-a-window-is-moved-on.md).
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import pvalue

from beam_jobs import blocks
from beam_jobs.batch_files import read_batch, totals, write_batches
from beam_jobs.day_events import Window, part_name, part_number
from beam_jobs.events import UserEvents
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.sessions import SECONDS_A_DAY
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.config import Config, PrepareConfig
from pipeline.errors import ArtifactError, JobError
from pipeline.split import order_by
from pipeline.storage import Location, glob
from pipeline.tables import WHOLE_LOG

KIND, VERSION = "window_events", 1
ITEMS = "items.arrow"
ITEM_IDS = pa.schema([("item_id", pa.string())])
USERS = pa.schema([("user_id", pa.string()), ("items", pa.list_(pa.int32())), ("timestamps", pa.list_(pa.int64()))])


@dataclass(frozen=True)
class WindowEvents:
    """The events of a window by partition of users, as other jobs read them."""

    artifact: Artifact
    last_day: date

    @property
    def items(self) -> Location:
        """The file of the items, for `item_ids`."""
        return self.artifact.location(ITEMS)

    def sources(self) -> list[tuple[int, str]]:
        """(partition, its file): the elements of a job over complete users."""
        return [(part_number(path), str(path)) for path in self.artifact.locations("events-")]

    @classmethod
    def read(cls, config: Config) -> "WindowEvents":
        """Raises ArtifactError when there are none, or they are of other days than the window has now."""
        window = Window.read(config)
        artifact = open_artifact(config.prepared_dir(KIND), KIND, VERSION)
        if artifact.manifest["spec"] != _spec(window).as_json():
            raise ArtifactError(f"{artifact.path} holds the events of other days. Cure: twotower prepare")
        return cls(artifact, window.last_day)


def item_ids(path: Location | str) -> pa.Array:
    """The items of a window in the order of their codes: strings [I]."""
    return read_batch(path)["item_id"].combine_chunks()


def read_users(path: Location | str, prepare: PrepareConfig) -> UserEvents:
    """The complete users of one partition; a user's events beyond the most are cut, and counted."""
    events = read_events(path)
    latest = events.latest(prepare.max_user_events)
    count("users_cut", np.count_nonzero(latest.lengths < events.lengths))
    count("events_cut", len(events.items) - len(latest.items))
    return latest


def read_events(path: Location | str) -> UserEvents:
    """All events of one partition of users."""
    table = read_batch(path).combine_chunks()
    users, items, timestamps = (table[name].chunk(0) for name in USERS.names)
    return UserEvents(
        users, items.offsets.to_numpy().astype(np.int64), items.values.to_numpy(), timestamps.values.to_numpy()
    )


def write_events(events: UserEvents, path: str) -> None:
    """Write a partition of users, for `read_events`."""
    ends = pa.array(events.offsets, pa.int32())
    lists = [pa.ListArray.from_arrays(ends, pa.array(column)) for column in (events.items, events.timestamps)]
    counts = {"events": str(len(events.items)), "users": str(len(events.user_ids))}
    write_batches(path, USERS, [pa.table([events.user_ids, *lists], schema=USERS)], counts)


# ---- kernels


@dataclass(frozen=True)
class Move:
    """What happens to one partition of users.

    before: its file in the window before, None where there is none; gone: the days (since 1970, ascending) that lose
    their events there; added: the files of the days that are merged in, ascending.
    """

    partition: int
    before: str | None
    gone: tuple[int, ...]
    added: tuple[str, ...]

    def kept(self) -> UserEvents:
        """The events of the window before that stay."""
        events = self._all()
        return events.where(self._stays(events))

    def kept_items(self, items: int) -> np.ndarray:
        """Which of so many codes of the window before stay: bool [items]."""
        events, kept = self._all(), np.zeros(items, dtype=bool)
        kept[events.items[self._stays(events)]] = True
        return kept

    def _all(self) -> UserEvents:
        return UserEvents.nothing() if self.before is None else read_events(self.before)

    def _stays(self, events: UserEvents) -> np.ndarray:
        return ~np.isin(events.timestamps // SECONDS_A_DAY, self.gone)

    def new(self) -> pa.Table | None:
        """The events of the days that are merged in, with one dictionary per column."""
        if not self.added:
            return None
        return pa.concat_tables(map(read_batch, self.added)).unify_dictionaries().combine_chunks()


def merged(kept: UserEvents, new: pa.Table | None, codes: pa.Array) -> UserEvents:
    """One window's events: users ascending by id, without those who have none.

    kept: with `items` as codes already. new: of other days than those kept; a user's events of one day are in order,
    and the days ascend. codes: the items of the window.
    """
    if new is None:
        return kept.select(np.flatnonzero(kept.lengths))
    users, user_ids = blocks.dictionary(new["user_id"])
    items, new_ids = blocks.dictionary(new["item_id"])
    everyone = pa.concat_arrays([kept.user_ids, user_ids]).dictionary_encode()
    order = pc.array_sort_indices(everyone.dictionary)
    place = np.empty(len(order), dtype=np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    place = place[everyone.indices.to_numpy()]  # of each user kept, then of each new one
    owner = np.concatenate((np.repeat(place[: len(kept.user_ids)], kept.lengths), place[len(kept.user_ids) :][users]))
    code = np.asarray(pc.index_in(new_ids, value_set=codes)).astype(np.int32)
    timestamps = np.concatenate((kept.timestamps, new["timestamp"].to_numpy()))
    day = timestamps // SECONDS_A_DAY
    rows = order_by(owner, day - day.min(initial=0))
    events = UserEvents(
        everyone.dictionary.take(order),
        np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(order))))),
        np.concatenate((kept.items, code[items]))[rows],
        timestamps[rows],
    )
    return events.select(np.flatnonzero(events.lengths))


# ---- Beam


class FindItems(beam.DoFn):
    """A move -> which codes of the window before stay, as bits; the ids that are merged in, as a block."""

    def __init__(self, items: int) -> None:
        self.items = items

    def process(self, move: Move) -> Iterator[tuple[bytes, bytes]]:
        new = move.new()
        ids = pa.array([], pa.string()) if new is None else blocks.dictionary(new["item_id"])[1]
        yield np.packbits(move.kept_items(self.items)).tobytes(), blocks.pack(pa.table([ids], schema=ITEM_IDS))


def write_items(_: None, found: list[tuple[bytes, bytes]], before: str | None, path: str) -> str:
    """Write the items of the window; gives the path, for the step that waits for it."""
    ids = [blocks.unpack(block)["item_id"].combine_chunks() for _, block in found]
    if before is not None:
        old = item_ids(before)
        present = np.bitwise_or.reduce([np.frombuffer(bits, np.uint8) for bits, _ in found])
        ids.append(old.filter(pa.array(np.unpackbits(present, count=len(old)).astype(bool))))
    distinct = pc.unique(pa.concat_arrays(ids))
    table = pa.table([distinct.take(pc.array_sort_indices(distinct))], schema=ITEM_IDS)
    blocks.write_part(path, lambda aside: write_batches(aside, ITEM_IDS, [table], {}))
    return path


class WriteEvents(beam.DoFn):
    """A move, once the items are written -> events-<partition>.arrow, unless no event is left."""

    def __init__(self, before: str | None, folder: Location) -> None:
        self.before, self.folder = before, str(folder)
        self.codes: pa.Array | None = None

    def process(self, move: Move, items: str) -> None:
        if self.codes is None:
            self.codes = item_ids(items)
            # Of each item of the window before; -1 for one that left.
            old = pa.array([], pa.string()) if self.before is None else item_ids(self.before)
            self.code = np.asarray(pc.fill_null(pc.index_in(old, value_set=self.codes), -1)).astype(np.int32)
        kept = move.kept()
        events = merged(replace(kept, items=self.code[kept.items]), move.new(), self.codes)
        if len(events.items):
            path = f"{self.folder}/{part_name(move.partition)}"
            blocks.write_part(path, lambda aside: write_events(events, aside))


# ---- the stage


def _spec(window: Window) -> Spec:
    config = {"partitions": window.partitions, "days": window.fingerprints}
    return Spec(KIND, VERSION, inputs={"day_events": window.artifact.fingerprint}, config=config)


def _before(path: Location, spec: Spec) -> Artifact | None:
    """The window that was there, if it can be moved on: it is cut by day, as this one, into the same partitions.

    A damaged one would be moved on for as long as there are new days, and is made anew instead.
    """
    try:
        before = open_artifact(path, KIND, VERSION)
        if WHOLE_LOG in {*before.config["days"], *spec.config["days"]}:
            return None
        if before.config["partitions"] != spec.config["partitions"]:
            return None
        before.verify()
    except ArtifactError:
        return None
    return before


def _staying(before: Artifact | None, window: Window) -> set[str]:
    """The dates whose events the window before has as well."""
    had = {} if before is None else before.config["days"]
    return {day for day, fingerprint in window.fingerprints.items() if had.get(day) == fingerprint}


def moves(before: Artifact | None, window: Window) -> list[Move]:
    """What happens to each partition of users that has events in either window."""
    stay = _staying(before, window)
    added, files, gone = window.files(stay), dict[int, str](), list[int]()
    if before is not None:
        files = {part_number(path): str(path) for path in before.locations("events-")}
        gone = sorted((date.fromisoformat(day) - date(1970, 1, 1)).days for day in before.config["days"].keys() - stay)
    return [Move(p, files.get(p), tuple(gone), tuple(added.get(p, ()))) for p in sorted({*files, *added})]


def build(pipeline: beam.Pipeline, todo: Sequence[Move], before: Artifact | None, folder: Location) -> None:
    """Add the whole job to a pipeline; it writes into `folder`."""
    old = None if before is None else str(before.location(ITEMS))
    find = beam.ParDo(FindItems(0 if old is None else len(item_ids(old)))).with_output_types(tuple[bytes, bytes])
    # One list, not one of each: on Flink each side input takes network buffers for as long as the job runs.
    found = pipeline | "moves" >> beam.Create(todo) | find
    once = pipeline | "once" >> beam.Create([None])
    items = once | beam.Map(write_items, pvalue.AsList(found), old, str(folder / ITEMS))
    write = beam.ParDo(WriteEvents(old, folder), pvalue.AsSingleton(items))
    _ = pipeline | "moves, once the items are known" >> beam.Create(todo) | write


def _check_complete(window: Window, written: int) -> None:
    """A runner that loses elements must not go unnoticed."""
    expected = sum(day.counts["events"] for day in window.days)
    if written != expected:
        raise JobError(
            f"{KIND}: the days have {expected} events, but {written} were written. Nothing was published. "
            "Cure: run it again, and report the runner and its version if this repeats"
        )


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the events of the window unless they are current. Needs the coded days."""
    window = Window.read(config)
    path, spec = config.prepared_dir(KIND), _spec(window)
    if artifact := current(path, spec):
        return artifact
    before = _before(path, spec)
    todo = moves(before, window)
    with create(path, spec) as draft, progress(KIND, [draft.target], "events-*", len(todo)):
        run_pipeline(lambda pipeline: build(pipeline, todo, before, draft.target), pipeline_args)
        draft.counts |= totals(glob(draft.target, "events-*.arrow"), "events", "users")
        draft.counts["items"] = len(item_ids(draft.target / ITEMS))
        draft.counts["days_merged"] = len(window.days) - len(_staying(before, window))
        _check_complete(window, draft.counts["events"])
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
