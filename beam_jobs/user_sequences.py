"""Beam job: the events of the window -> one row per user, in order, cut into train | validation | test."""

import sys
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.events import UserEvents
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.window_events import WindowEvents, item_ids, read_users
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config, SplitConfig
from pipeline.sequences import KIND, SCHEMA, VERSION
from pipeline.split import cut
from pipeline.storage import Location
from pipeline.vocabulary import Vocabulary

EVENTS_PER_GROUP = 1_000_000
"""Events of a row group, the unit in which other jobs read the sequences."""
# Timestamps hardly repeat but ascend, items have many values: dictionaries of either take twice as long, and a half
# more bytes.
ENCODING = {"timestamps.list.element": "DELTA_BINARY_PACKED", "items.list.element": "PLAIN"}


def sequences(events: UserEvents, users: Vocabulary, item_index: np.ndarray, split: SplitConfig) -> pa.Table:
    """The rows (SCHEMA) of some complete users, by user index; users outside the vocabulary are left out.

    item_index: int32 [I], the index of each item of the window, 0 where it is unknown.
    """
    user_index = users.encode(events.user_ids)
    known = np.flatnonzero(user_index)
    events = events.select(known[np.argsort(user_index[known])])
    train_end, validation_end = cut(events.timestamps, events.offsets, split)
    ends = pa.array(events.offsets, pa.int32())
    columns = [
        pa.array(np.sort(user_index[known]), pa.int32()),
        pa.ListArray.from_arrays(ends, pa.array(item_index[events.items], pa.int32())),
        pa.ListArray.from_arrays(ends, pa.array(events.timestamps, pa.int64())),
        pa.array(train_end, pa.int32()),
        pa.array(validation_end, pa.int32()),
    ]
    return pa.table(columns, schema=SCHEMA)


def write_sequences(table: pa.Table, path: str) -> None:
    """Write sequences as Parquet; a row group ends with the user that fills it."""
    ends = np.cumsum(table["items"].combine_chunks().value_lengths().to_numpy())
    stops = np.flatnonzero(np.diff(ends // EVENTS_PER_GROUP, append=-1)) + 1
    with pq.ParquetWriter(path, SCHEMA, use_dictionary=False, column_encoding=ENCODING) as writer:
        for start, stop in zip(np.append(0, stops)[:-1], stops, strict=True):
            writer.write_table(table.slice(start, stop - start))


class WriteSequences(beam.DoFn):
    """(partition of users, its file) -> part-<partition>.parquet."""

    def __init__(self, vocabularies: Location, items: Location, config: Config, folder: Location) -> None:
        self.vocabularies, self.items, self.folder = str(vocabularies), str(items), str(folder)
        self.split, self.prepare = config.split, config.prepare

    def setup(self) -> None:
        known = Vocabularies.read(self.vocabularies)
        self.users, self.item_index = known.users, known.items.encode(item_ids(self.items))

    def process(self, element: tuple[int, str]) -> None:
        partition, path = element
        table = sequences(read_users(path, self.prepare), self.users, self.item_index, self.split)
        items = table["items"].combine_chunks().flatten().to_numpy()
        train, known = table["train_end"].to_numpy().sum(), table["validation_end"].to_numpy().sum()
        count("users", len(table))
        count("events_kept", len(items))
        count("events_of_unknown_items", np.count_nonzero(items == 0))
        count("train_events", train)
        count("validation_events", known - train)
        count("test_events", len(items) - known)
        blocks.write_part(f"{self.folder}/part-{partition:05d}.parquet", lambda aside: write_sequences(table, aside))


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the user sequences unless they are current. Needs the window's events and the vocabularies."""
    window, vocabularies = WindowEvents.read(config), Vocabularies.read(config.prepared_dir("vocabularies")).artifact
    path, partitions = config.prepared_dir(KIND), config.prepare.partitions
    spec = Spec(
        KIND,
        VERSION,
        inputs={
            "window_events": window.artifact.fingerprint,
            "users": vocabularies.checksum("users.parquet"),
            "items": vocabularies.checksum("items.parquet"),
        },
        config={
            "split": config.split.model_dump(),
            "partitions": partitions,
            "max_user_events": config.prepare.max_user_events,
        },
    )
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft, progress(KIND, [draft.target], "part-*.parquet", partitions):
        write = beam.ParDo(WriteSequences(vocabularies.path, window.items, config, draft.target))
        draft.counts.update(
            run_pipeline(
                lambda pipeline: pipeline | "users" >> beam.Create(window.sources()) | write,
                pipeline_args,
            )
        )
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
