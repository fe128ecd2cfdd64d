"""Beam job: the user sequences -> for each item the items that share sessions with it (MicRec, section 3.5).

A session is a run of a user's train events, each at most `gap_seconds` after the one before. Two distinct items
co-occur once per session that holds both, however often it repeats them.
"""

import calendar
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.item_pairs import Places, count_pairs, sent
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.sessions import decay, distinct_items, positions, session_numbers
from beam_jobs.shuffle import Shuffle, shuffle
from beam_jobs.window_events import WindowEvents
from pipeline import sequences
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import MISSING, Vocabularies, item_table
from pipeline.config import Config, SessionConfig
from pipeline.errors import ConfigError, nearest
from pipeline.storage import Location
from pipeline.tables import Tables

KIND, VERSION = "session_cooccurrence", 1
SCHEMA = pa.schema([("item", pa.int32()), ("neighbours", pa.list_(pa.int32())), ("weights", pa.list_(pa.float32()))])
MANY_LEFT = 0.9
"""Of the rows that were contenders: then the search for others ends."""

# ---- kernels


def same_category(column: np.ndarray, missing: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """bool [n]: do items a and b share a value? A missing (or unknown) value is shared by nobody.

    column: int32 [R] or [R, M], 0 as padding; missing: the index of "".
    """
    wide = column.reshape(len(column), -1)  # [R] -> (R, 1)
    values = np.where(wide == missing, 0, wide)
    shared = np.zeros(len(a), dtype=bool)
    for m in range(values.shape[1]):
        value = values[a, m]
        open_rows = np.flatnonzero((value > 0) & ~shared)
        for rows in np.array_split(open_rows, 1 + len(open_rows) // 100_000):
            shared[rows] = (values[b[rows]] == value[rows, None]).any(axis=1)
    return shared


def rank_neighbours(item: np.ndarray, neighbour: np.ndarray, weight: np.ndarray, top_n: int) -> pa.Table:
    """The `top_n` heaviest neighbours of each item (SCHEMA), by weight, largest first, then by index."""
    levels = _levels(weight)
    item, lightness, neighbour = blocks.sorted_columns(
        item, len(levels) - 1 - np.searchsorted(levels, weight), neighbour
    )
    heaviest = positions(item) < top_n
    item, lightness, neighbour = item[heaviest], lightness[heaviest], neighbour[heaviest]
    starts = blocks.run_starts(item)
    offsets = pa.array(np.append(starts, len(item)), pa.int32())
    columns = [
        pa.array(item[starts], pa.int32()),
        pa.ListArray.from_arrays(offsets, pa.array(neighbour, pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(levels[len(levels) - 1 - lightness], pa.float32())),
    ]
    return pa.table(columns, schema=SCHEMA)


def contenders(item: np.ndarray, weight: np.ndarray, top_n: int, level: float) -> np.ndarray:
    """The rows that may be among the `top_n` heaviest of their item, int64, ascending: most others need no sorting.

    item: each item's rows are contiguous. Where `top_n` rows of an item are heavier than some level, those of that
    weight or less are out; levels are tried upwards, each twice the one before, as long as many rows go.
    """
    rows = np.arange(len(item))
    while len(item):
        heavier = weight > level
        starts = blocks.run_starts(item)
        lengths = np.diff(starts, append=len(item))
        full = np.add.reduceat(heavier, starts, dtype=np.int64) >= top_n
        left = np.flatnonzero(heavier | np.repeat(~full, lengths))
        rows = rows[left]
        if len(left) > MANY_LEFT * len(item):
            break
        item, weight, level = item[left], weight[left], 2 * level
    return rows


def _levels(weight: np.ndarray) -> np.ndarray:
    """The different weights, ascending: float64 [L]. Counts take few values, which need no sort to be found."""
    whole = weight.astype(np.int64)
    if len(weight) and whole.max() < len(weight) and np.array_equal(whole, weight):
        return np.flatnonzero(np.bincount(whole)).astype(np.float64)
    return np.unique(weight)


# ---- Beam


class SendSessions(beam.DoFn):
    """A row group of user sequences -> (partition of items, block of the sessions that hold one of them)."""

    def __init__(self, session: SessionConfig, places: Places, last_day: date, between: Shuffle) -> None:
        self.session, self.places, self.between = session, places, between
        self.window_end = calendar.timegm((last_day + timedelta(days=1)).timetuple())

    def process(self, source: tuple[str, int]) -> Iterator[tuple[int, bytes]]:
        session, items, weights = self._sessions(blocks.read_row_group(source))
        session, items, cut = distinct_items(session, items, self.session.max_session_items)
        count("sessions", len(blocks.run_starts(session)))
        count("sessions_cut", len(blocks.run_starts(cut)))
        count("session_items", len(session) + len(cut))
        count("items_cut", len(cut))
        for partition, sessions in sent(session, self.places.place(items), self.places, weights):
            yield partition, self.between.put(sessions)

    def _sessions(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(session, item) of the train events, and the weight of each session number; None: 1 each."""
        lists = table["items"].combine_chunks()
        lengths = lists.value_lengths().to_numpy()
        starts = np.cumsum(lengths) - lengths
        train = np.arange(lengths.sum()) < np.repeat(starts + table["train_end"].to_numpy(), lengths)
        users = np.repeat(np.arange(len(lengths)), table["train_end"].to_numpy())
        timestamps = table["timestamps"].combine_chunks().flatten().to_numpy()[train]
        session = session_numbers(users, timestamps, self.session.gap_seconds)
        weights = None
        if self.session.half_life_days is not None:
            started = timestamps[blocks.run_starts(session)]
            weights = decay(started, self.window_end, self.session.half_life_days)
        count("train_events", len(session))
        return session, lists.flatten().to_numpy()[train], weights


class WriteNeighbours(beam.DoFn):
    """(partition, blocks) -> part-<partition>.parquet."""

    def __init__(
        self,
        session: SessionConfig,
        places: Places,
        tables: Location,
        vocabularies: Location,
        folder: Location,
        between: Shuffle,
    ) -> None:
        self.session, self.places, self.between = session, places, between
        self.tables, self.vocabularies, self.folder = str(tables), str(vocabularies), str(folder)

    def setup(self) -> None:
        self.category = None
        if self.session.same_category_field is not None:
            vocabularies = Vocabularies.read(self.vocabularies)
            columns = item_table(Tables.read(self.tables), vocabularies).columns
            missing = vocabularies.item_fields[self.session.same_category_field].index(MISSING)
            self.category = columns[self.session.same_category_field], missing

    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        partition, received = element
        # Sorted: a shuffle delivers in any order, and sums of floats depend on theirs.
        tables = (blocks.unpack(block) for block in sorted(map(self.between.get, received)))
        place, of_neighbour, weight = count_pairs(tables, partition, self.places)
        once = place < of_neighbour  # both directions are among the rows of all partitions
        enough = weight >= self.session.min_count
        weight = np.where(enough, weight, 0) if self.session.min_count > 1 or weight.dtype.kind == "f" else weight
        count("pairs_below_min_count", np.count_nonzero(~enough & once))
        count("pairs", np.count_nonzero(enough & once))
        if self.category is not None:
            weight = weight.astype(np.float64)
            shared = same_category(*self.category, self.places.item(place), self.places.item(of_neighbour))
            count("pairs_of_one_category", np.count_nonzero(shared & enough & once))
            weight[shared] *= self.session.same_category_factor
        rows = contenders(place, weight, self.session.top_n, self.session.min_count)
        rows = rows[weight[rows] > 0]
        items = self.places.item(place[rows]), self.places.item(of_neighbour[rows])
        ranked = rank_neighbours(*items, weight[rows], self.session.top_n)
        kept = len(ranked["neighbours"].combine_chunks().flatten())
        count("items", len(ranked))
        count("neighbours", kept)
        count("neighbours_dropped", np.count_nonzero(enough) - kept)
        blocks.write_part(f"{self.folder}/part-{partition:05d}.parquet", lambda aside: pq.write_table(ranked, aside))


def check_category_field(field: str | None, vocabularies: Vocabularies) -> None:
    """Raise ConfigError unless `field` is None or a categorical or multi-valued item field."""
    if field is not None and field not in vocabularies.item_fields:
        known = sorted(vocabularies.item_fields)
        raise ConfigError(
            f"`prepare.session.same_category_field` is {field!r}, which is no categorical or multi-valued item field."
            f"{nearest(field, known)} There are: {known}"
        )


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the co-occurrences unless they are current. Needs the vocabularies and the user sequences."""
    tables, window = Tables.read(config.tables_dir), WindowEvents.read(config)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    source = open_artifact(config.prepared_dir(sequences.KIND), sequences.KIND, sequences.VERSION)
    session, partitions = config.prepare.session, config.prepare.partitions
    check_category_field(session.same_category_field, vocabularies)
    path, spec = config.prepared_dir(KIND), _spec(config, tables, window, vocabularies.artifact, source)
    if artifact := current(path, spec):
        return artifact
    with (
        create(path, spec) as draft,
        shuffle(draft, pipeline_args) as between,
        progress(KIND, [draft.target], "part-*.parquet", partitions),
    ):
        places = Places.of(vocabularies.items.size, partitions)
        send = beam.ParDo(SendSessions(session, places, window.last_day, between))
        write = WriteNeighbours(
            session, places, tables.artifact.path, vocabularies.artifact.path, draft.target, between
        )
        draft.counts.update(
            run_pipeline(
                lambda pipeline: (
                    pipeline
                    | "row groups" >> beam.Create(blocks.row_groups(source.locations("part-")))
                    | send.with_output_types(tuple[int, bytes])
                    | beam.GroupByKey()
                    | beam.ParDo(write)
                ),
                pipeline_args,
            )
        )
    return open_artifact(path, KIND, VERSION)


def _spec(config: Config, tables: Tables, window: WindowEvents, vocabularies: Artifact, source: Artifact) -> Spec:
    session = config.prepare.session
    inputs = {"user_sequences": source.fingerprint}
    if session.same_category_field is not None:
        inputs |= {"items": tables.artifact.checksum("items.parquet"), "vocabularies": vocabularies.fingerprint}
    settings = {"session": session.model_dump(), "partitions": config.prepare.partitions}
    if session.half_life_days is not None:
        settings["last_day"] = window.last_day.isoformat()
    return Spec(KIND, VERSION, inputs, settings)


if __name__ == "__main__":
    sys.exit(main(run))
