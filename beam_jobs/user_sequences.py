"""Beam job: the events -> one row per user, in order, cut into train | validation | test."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.events import Events, EventsByUser
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config, SplitConfig
from pipeline.sequences import KIND, SCHEMA, VERSION
from pipeline.split import cut
from pipeline.tables import Tables
from pipeline.vocabulary import Vocabulary

EVENTS_PER_GROUP = 1_000_000
"""Events of a row group, the unit in which other jobs read the sequences."""


def sequences(events: Events, users: Vocabulary, items: Vocabulary, split: SplitConfig) -> pa.Table:
    """The rows (SCHEMA) of some complete users, by user index; users outside the vocabulary are left out."""
    user_index = users.encode(events.user_ids)
    events = events.select(user_index[events.users] > 0)
    order = events.ordered(user_index)
    lengths = events.per_user()
    owners = np.flatnonzero(lengths)
    owners = owners[np.argsort(user_index[owners])]
    offsets = np.concatenate(([0], np.cumsum(lengths[owners])))
    timestamps = events.timestamps[order]
    train_end, validation_end = cut(timestamps, offsets, split)
    ends = pa.array(offsets, pa.int32())
    columns = [
        pa.array(user_index[owners], pa.int32()),
        pa.ListArray.from_arrays(ends, pa.array(items.encode(events.item_ids)[events.items[order]], pa.int32())),
        pa.ListArray.from_arrays(ends, pa.array(timestamps, pa.int64())),
        pa.array(train_end, pa.int32()),
        pa.array(validation_end, pa.int32()),
    ]
    return pa.table(columns, schema=SCHEMA)


def write_sequences(table: pa.Table, path: str) -> None:
    """Write sequences as Parquet; a row group ends with the user that fills it."""
    ends = np.cumsum(table["items"].combine_chunks().value_lengths().to_numpy())
    stops = np.flatnonzero(np.diff(ends // EVENTS_PER_GROUP, append=-1)) + 1
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start, stop in zip(np.append(0, stops)[:-1], stops, strict=True):
            writer.write_table(table.slice(start, stop - start))


class WriteSequences(beam.DoFn):
    """(partition, blocks) -> part-<partition>.parquet."""

    def __init__(self, users: Path, items: Path, split: SplitConfig, folder: Path) -> None:
        self.users, self.items, self.split, self.folder = str(users), str(items), split, str(folder)

    def setup(self) -> None:
        self.vocabularies = Vocabulary.read(self.users), Vocabulary.read(self.items)

    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        partition, received = element
        events = Events.from_table(blocks.concat(received))
        table = sequences(events, *self.vocabularies, self.split)
        items = table["items"].combine_chunks()
        count("users", len(table))
        count("events_kept", len(items.flatten()))
        count("events_of_unknown_items", int(np.count_nonzero(items.flatten().to_numpy() == 0)))
        count("train_events", table["train_end"].to_numpy().sum())
        count("validation_events", (table["validation_end"].to_numpy() - table["train_end"].to_numpy()).sum())
        path = Path(self.folder) / f"part-{partition:05d}.parquet"
        blocks.write_part(path, lambda aside: write_sequences(table, aside))


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the user sequences unless they are current. Needs the vocabularies."""
    tables = Tables.read(config.tables_dir)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies")).artifact
    path, partitions = config.prepared_dir(KIND), config.prepare.partitions
    spec = Spec(
        KIND,
        VERSION,
        inputs={"tables": tables.artifact.fingerprint, "vocabularies": vocabularies.fingerprint},
        config={"split": config.split.model_dump(), "partitions": partitions},
    )
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft, progress(KIND, draft.dir, "part-*.parquet", partitions):
        write = WriteSequences(
            vocabularies.file("users.parquet"), vocabularies.file("items.parquet"), config.split, draft.dir
        )
        draft.counts.update(
            run_pipeline(
                lambda pipeline: pipeline | EventsByUser(tables.event_parts, partitions) | beam.ParDo(write),
                pipeline_args,
            )
        )
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
