"""Beam job: the user sequences -> for each item the items that share sessions with it (MicRec, section 3.5).

A session is a run of a user's train events, each at most `gap_seconds` after the one before. Two distinct items
co-occur once per session that holds both, however often it repeats them.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline import sequences
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import MISSING, Vocabularies, item_table
from pipeline.config import Config, SessionConfig
from pipeline.errors import ConfigError, nearest
from pipeline.split import order_by
from pipeline.tables import Tables

KIND, VERSION = "session_cooccurrence", 1
SCHEMA = pa.schema([("item", pa.int32()), ("neighbours", pa.list_(pa.int32())), ("weights", pa.list_(pa.float32()))])
PAIRS_AT_ONCE = 4_000_000
"""Bounds the memory of a worker: a session of 200 items has 20,000 pairs."""

# ---- kernels


def session_numbers(users: np.ndarray, timestamps: np.ndarray, gap: int) -> np.ndarray:
    """The session of each event, 0, 1, ... : int64 [n]. Events come user after user, each user's in order."""
    new = (users[1:] != users[:-1]) | (timestamps[1:] - timestamps[:-1] > gap)
    return np.concatenate(([0], np.cumsum(new))).astype(np.int64)[: len(users)]


def distinct_items(session: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(session, item) without unknown items and repeats, in the order of first appearance. session: ascending."""
    session, items = session[items > 0], items[items > 0]
    keys = session * (1 + items.max(initial=0)) + items
    first = np.sort(np.unique(keys, return_index=True)[1])
    return session[first], items[first]


def positions(groups: np.ndarray) -> np.ndarray:
    """How many rows of its own group come before each row: int64 [n]. Groups are contiguous."""
    starts = blocks.run_starts(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def pair_keys(session: np.ndarray, items: np.ndarray, size: int, at_once: int = PAIRS_AT_ONCE) -> Iterator[np.ndarray]:
    """min * size + max of every two items that share a session, in chunks of about `at_once` pairs.

    session: ascending; items: int [n], distinct within a session, below size.
    """
    starts = blocks.run_starts(session)
    lengths = np.diff(starts, append=len(session))
    firsts = blocks.run_starts(np.cumsum(lengths * (lengths - 1) // 2) // at_once)  # first session of each chunk
    for first, stop in zip(firsts, np.append(firsts, len(starts))[1:], strict=True):
        inside = slice(starts[first], starts[first] + lengths[first:stop].sum())
        after = np.repeat(starts[first:stop] + lengths[first:stop] - 1, lengths[first:stop])
        yield _chunk_keys(items[inside].astype(np.int64), after - np.arange(inside.start, inside.stop), size)


def _chunk_keys(items: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """after: how many rows of its session follow each row. Pairs at distance 1, then 2, ..."""
    keys, distance = [np.zeros(0, np.int64)], 1
    left = np.flatnonzero(after >= distance)
    while len(left):
        a, b = items[left], items[left + distance]
        keys.append(np.minimum(a, b) * size + np.maximum(a, b))
        distance += 1
        left = left[after[left] >= distance]
    return np.concatenate(keys)


def count_pairs(
    keys: np.ndarray, size: int, counts: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys item * size + neighbour (with counts, or 1 each) -> (item, neighbour, count), by item, then neighbour."""
    keys, counts = blocks.sum_by_key(keys, counts)
    return *np.divmod(keys, size), counts


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
    lightness = len(weight) - np.searchsorted(np.unique(weight), weight)
    order = order_by(item, lightness, neighbour)
    order = order[positions(item[order]) < top_n]
    starts = blocks.run_starts(item[order])
    offsets = pa.array(np.append(starts, len(order)), pa.int32())
    columns = [
        pa.array(item[order][starts], pa.int32()),
        pa.ListArray.from_arrays(offsets, pa.array(neighbour[order], pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(weight[order], pa.float32())),
    ]
    return pa.table(columns, schema=SCHEMA)


# ---- Beam


class CountPairs(beam.DoFn):
    """A row group of user sequences -> (partition of items, block of item, neighbour, count), both directions."""

    def __init__(self, session: SessionConfig, size: int, partitions: int) -> None:
        self.session, self.size, self.partitions = session, size, partitions

    def process(self, source: tuple[str, int]) -> Iterator[tuple[int, bytes]]:
        session, items = self._sessions(blocks.read_row_group(source))
        inside = positions(session) < self.session.max_session_items
        count("sessions", len(blocks.run_starts(session)))
        count("sessions_cut", len(blocks.run_starts(session[~inside])))
        count("items_cut", np.count_nonzero(~inside))
        for keys in pair_keys(session[inside], items[inside], self.size):
            a, b, counts = (part.astype(np.int32) for part in count_pairs(keys, self.size))
            item, neighbour = np.concatenate((a, b)), np.concatenate((b, a))
            table = pa.table({"item": item, "neighbour": neighbour, "count": np.concatenate((counts, counts))})
            yield from blocks.split(table, item % self.partitions, self.partitions)

    def _sessions(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        items = table["items"].combine_chunks()
        lengths = items.value_lengths().to_numpy()
        users = np.repeat(np.arange(len(lengths)), lengths)
        train = positions(users) < np.repeat(table["train_end"].to_numpy(), lengths)
        timestamps = table["timestamps"].combine_chunks().flatten().to_numpy()[train]
        count("train_events", np.count_nonzero(train))
        session = session_numbers(users[train], timestamps, self.session.gap_seconds)
        return distinct_items(session, items.flatten().to_numpy()[train])


class WriteNeighbours(beam.DoFn):
    """(partition, blocks) -> part-<partition>.parquet."""

    def __init__(self, session: SessionConfig, size: int, tables: Path, vocabularies: Path, folder: Path) -> None:
        self.session, self.size = session, size
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
        table = pa.concat_tables([blocks.unpack(block) for block in received])
        keys = table["item"].to_numpy().astype(np.int64) * self.size + table["neighbour"].to_numpy()
        item, neighbour, counts = count_pairs(keys, self.size, table["count"].to_numpy())
        weight = counts.astype(np.float64)
        if self.category is not None:
            shared = same_category(*self.category, item, neighbour)
            count("pairs_of_one_category", np.count_nonzero(shared & (item < neighbour)))
            weight[shared] *= self.session.same_category_factor
        ranked = rank_neighbours(item, neighbour, weight, self.session.top_n)
        kept = len(ranked["neighbours"].combine_chunks().flatten())
        count("pairs", np.count_nonzero(item < neighbour))
        count("items", len(ranked))
        count("neighbours", kept)
        count("neighbours_dropped", len(item) - kept)
        path = Path(self.folder) / f"part-{partition:05d}.parquet"
        blocks.write_part(path, lambda aside: pq.write_table(ranked, aside))


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
    tables = Tables.read(config.tables_dir)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    source = open_artifact(config.prepared_dir(sequences.KIND), sequences.KIND, sequences.VERSION)
    session, partitions = config.prepare.session, config.prepare.partitions
    check_category_field(session.same_category_field, vocabularies)
    path, inputs = config.prepared_dir(KIND), {"user_sequences": source.fingerprint}
    if session.same_category_field is not None:
        inputs |= {"tables": tables.artifact.fingerprint, "vocabularies": vocabularies.artifact.fingerprint}
    spec = Spec(KIND, VERSION, inputs, config={"session": session.model_dump(), "partitions": partitions})
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft, progress(KIND, draft.dir, "part-*.parquet", partitions):
        size = vocabularies.items.size
        write = WriteNeighbours(session, size, tables.artifact.path, vocabularies.artifact.path, draft.dir)
        draft.counts.update(
            run_pipeline(
                lambda pipeline: (
                    pipeline
                    | "row groups" >> beam.Create(blocks.row_groups(source.parts("part-")))
                    | beam.Reshuffle()
                    | beam.ParDo(CountPairs(session, size, partitions)).with_output_types(tuple[int, bytes])
                    | beam.GroupByKey()
                    | beam.ParDo(write)
                ),
                pipeline_args,
            )
        )
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
