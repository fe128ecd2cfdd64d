"""Beam job: the events and the catalogue -> the vocabularies of items, users and field values."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam import pvalue

from beam_jobs import blocks
from beam_jobs.events import Events, EventsByUser
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import KIND, MISSING, NUMERIC_FILE, VERSION, field_file
from pipeline.config import Config, SplitConfig
from pipeline.errors import InputError
from pipeline.split import time_bounds
from pipeline.tables import FieldSchema, Tables

# ---- kernels: numpy and Arrow in, numpy and Arrow out


def count_train(events: Events, split: SplitConfig) -> tuple[pa.Table, pa.Table]:
    """Train events of each kept user and of each item, for a set of complete users.

    Users with fewer than `split.min_events` events (over all parts) are left out, with all their events.
    Returns: (users, items), each with columns value: string, count: int64; a kept user may have count 0.
    """
    kept = events.per_user() >= split.min_events
    train = events.train_rows(split) & kept[events.users]
    of_user = np.bincount(events.users[train], minlength=len(kept))
    of_item = np.bincount(events.items[train], minlength=len(events.item_ids))
    users = pa.table({"value": events.user_ids.filter(pa.array(kept)), "count": of_user[kept]})
    trained = of_item > 0
    return users, pa.table({"value": events.item_ids.filter(pa.array(trained)), "count": of_item[trained]})


def count_values(values: pa.ChunkedArray, kind: str) -> pa.Table:
    """How many rows carry each value of a categorical or multi column: value: string, count: int64.

    A list is a set; a missing value or an empty list carries "".
    """
    if kind == "categorical":
        column = pc.fill_null(values.cast(pa.string()), MISSING).combine_chunks().dictionary_encode()
        return pa.table({"value": column.dictionary, "count": np.bincount(column.indices, minlength=0)})
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    flat = pc.list_flatten(values)
    named = pc.fill_null(pc.not_equal(flat, MISSING), False)
    codes, distinct = blocks.dictionary(flat.filter(named).cast(pa.string()).combine_chunks().dictionary_encode())
    row = row[named.to_numpy(zero_copy_only=False)]
    pairs = np.unique(row * max(1, len(distinct)) + codes)
    counts = np.bincount(pairs % max(1, len(distinct)), minlength=len(distinct))
    empty = len(lengths) - len(np.unique(row))
    return pa.table(
        {"value": pa.concat_arrays([distinct, pa.array([MISSING])]), "count": np.append(counts, empty).astype(np.int64)}
    )


def bucket_boundaries(numbers: np.ndarray, buckets: int) -> np.ndarray:
    """The inner `buckets` quantiles of some numbers, ascending and distinct: float64 [<= buckets - 1].

    Each is one of the numbers, and begins a bucket (boundary <= x). The smallest number is no boundary:
    nothing would lie below it.
    """
    if not len(numbers):
        return np.zeros(0)
    quantiles = np.quantile(numbers, np.linspace(0, 1, buckets + 1)[1:-1], method="higher")
    distinct = np.unique(quantiles)
    return distinct[distinct > numbers.min()]


# ---- Beam

Users = pvalue.TaggedOutput[Literal["users"], bytes]


class CountTrain(beam.DoFn):
    """(partition of users, blocks) -> users: one block; items: (partition of items, block)."""

    def __init__(self, split: SplitConfig, partitions: int) -> None:
        self.split = split
        self.partitions = partitions

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes] | Users]:
        table = blocks.concat(element[1])
        events = Events.from_table(table)
        users, items = count_train(events, self.split)
        count("users_kept", len(users))
        count("users_dropped", len(events.user_ids) - len(users))
        count("train_events", pc.sum(users["count"]).as_py() or 0)
        yield pvalue.TaggedOutput("users", blocks.pack(users))
        yield from split_values(items, catalogue=False, partitions=self.partitions)


def split_values(counted: pa.Table, catalogue: bool, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Counted values -> a block per partition of their hash; `listed` says that the catalogue has them."""
    listed = pa.array(np.full(len(counted), int(catalogue), dtype=np.int64))
    table = counted.append_column("listed", listed)
    partition = (blocks.string_hash(table["value"].combine_chunks()) % np.uint64(partitions)).astype(np.uint16)
    yield from blocks.split(table, partition, partitions)


def catalogue_items(source: tuple[str, int], partitions: int) -> Iterator[tuple[int, bytes]]:
    """One row group of the items table -> its ids, with no event yet."""
    ids = blocks.read_row_group(source)["item_id"].cast(pa.string())
    counted = pa.table({"value": ids, "count": np.zeros(len(ids), dtype=np.int64)})
    yield from split_values(counted, catalogue=True, partitions=partitions)


def merge_items(element: tuple[int, Iterable[bytes]], minimum: int) -> bytes:
    """Add up the counts of one partition of items; items outside the catalogue need `minimum` events."""
    table = blocks.sum_strings(blocks.unpack(b) for b in element[1])
    listed = pc.greater(table["listed"], 0)
    kept = pc.or_(listed, pc.greater_equal(table["count"], minimum))
    count("items_outside_catalogue", pc.sum(pc.and_not(kept, listed)).as_py() or 0)
    count("items_dropped", pc.sum(pc.invert(kept)).as_py() or 0)
    count("items_trained", pc.sum(pc.and_(kept, pc.greater(table["count"], 0))).as_py() or 0)
    return blocks.pack(table.filter(kept).select(["value", "count"]))


def count_fields(source: tuple[str, int], side: str, fields: Sequence[FieldSchema]) -> Iterator[tuple[str, bytes]]:
    """One row group of the items (users) table -> per field: its counted values, or its numbers."""
    table = blocks.read_row_group(source)
    for field in fields:
        if field.kind == "numeric":
            numbers = table[field.name].cast(pa.float64()).to_numpy()
            yield f"{side}.{field.name}", blocks.pack(pa.table({"number": numbers[~np.isnan(numbers)]}))
        elif field.kind != "title":
            yield f"{side}.{field.name}", blocks.pack(count_values(table[field.name], field.kind))


class FieldVocabularies(beam.PTransform):
    """Pipeline -> the vocabulary files of one side's fields, written; gives (side.name, boundaries) of numeric ones."""

    def __init__(self, side: str, source: Path, fields: Sequence[FieldSchema], folder: Path, minimum: int) -> None:
        super().__init__()
        self.side, self.sources, self.folder, self.minimum = side, blocks.row_groups([source]), str(folder), minimum
        self.fields = {f"{side}.{f.name}": f for f in fields if f.kind != "title"}

    def expand(self, pbegin: beam.Pipeline) -> beam.PCollection:
        # An empty block per field, so that a table without rows still gives every vocabulary.
        empty = [(name, blocks.pack(_no_values(field.kind))) for name, field in self.fields.items()]
        counted = (
            pbegin
            | "row groups" >> beam.Create(self.sources)
            | beam.Reshuffle()
            | beam.FlatMap(count_fields, self.side, list(self.fields.values())).with_output_types(tuple[str, bytes])
        )
        every = (counted, pbegin | "fields" >> beam.Create(empty).with_output_types(tuple[str, bytes])) | beam.Flatten()
        return every | beam.GroupByKey() | beam.FlatMap(self._finish)

    def _finish(self, element: tuple[str, Iterable[bytes]]) -> Iterator[tuple[str, list[float]]]:
        name, field = element[0], self.fields[element[0]]
        tables = [blocks.unpack(b) for b in element[1]]
        if field.kind == "numeric":
            numbers = pa.concat_tables(tables)["number"].to_numpy()
            yield name, bucket_boundaries(numbers, field.buckets).tolist()
            return
        table = blocks.sum_strings(tables)
        # "" keeps its index whatever its count: an item seen later may miss the value.
        kept = pc.or_(pc.greater_equal(table["count"], self.minimum), pc.equal(table["value"], MISSING))
        count("values_dropped", pc.sum(pc.invert(kept)).as_py() or 0)
        write_values(Path(self.folder) / field_file(self.side, field.name), table.filter(kept))


def _no_values(kind: str) -> pa.Table:
    if kind == "numeric":
        return pa.table({"number": np.zeros(0)})
    return pa.table({"value": pa.array([MISSING]), "count": np.zeros(1, dtype=np.int64)})


def write_values(path: Path, table: pa.Table) -> None:
    """Write a vocabulary file (pipeline/vocabulary.py); the table is in index order."""
    blocks.write_part(path, lambda aside: pq.write_table(table, aside))


def write_merged(_: None, merged: list[bytes], path: str) -> None:
    """Write the vocabulary of values counted in several blocks, each value in one of them."""
    nothing = pa.table({"value": pa.array([], pa.string()), "count": np.zeros(0, dtype=np.int64)})
    write_values(Path(path), blocks.sum_strings([nothing, *(blocks.unpack(b) for b in merged)]))


def write_boundaries(_: None, boundaries: dict[str, list[float]], path: str) -> None:
    """Write the bucket boundaries of all numeric fields."""
    text = json.dumps(boundaries, sort_keys=True)
    blocks.write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


def build(pipeline: beam.Pipeline, tables: Tables, config: Config, folder: Path) -> None:
    """Add the whole job to a pipeline; it writes into `folder`."""
    partitions, minimum = config.prepare.partitions, max(1, config.prepare.min_item_count)
    one = pipeline | "once" >> beam.Create([None])
    counted = (
        pipeline
        | "events" >> EventsByUser(tables.event_parts, partitions)
        | beam.ParDo(CountTrain(config.split, partitions))
        .with_output_types(tuple[int, bytes])
        .with_outputs("users", main="items")
    )
    listed = (
        pipeline
        | "catalogue" >> beam.Create(blocks.row_groups([tables.artifact.file("items.parquet")]))
        | beam.FlatMap(catalogue_items, partitions).with_output_types(tuple[int, bytes])
    )
    items = (counted["items"], listed) | beam.Flatten() | beam.GroupByKey() | beam.Map(merge_items, minimum)
    one | "items" >> beam.Map(write_merged, pvalue.AsList(items), str(folder / "items.parquet"))
    one | "users" >> beam.Map(write_merged, pvalue.AsList(counted["users"]), str(folder / "users.parquet"))
    boundaries = [
        pipeline
        | f"{side} fields"
        >> FieldVocabularies(
            side, tables.artifact.file(f"{side}s.parquet"), fields, folder, config.prepare.min_value_count
        )
        for side, fields in (("item", tables.schema.item_fields), ("user", tables.schema.user_fields))
    ]
    flat = boundaries | "boundaries" >> beam.Flatten()
    one | "numeric" >> beam.Map(write_boundaries, pvalue.AsDict(flat), str(folder / NUMERIC_FILE))


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the vocabularies unless they are current. Raises InputError when no event is left to train on."""
    tables = Tables.read(config.tables_dir)
    if config.split.kind == "time":
        time_bounds(config.split)  # refuse an impossible split here, not in a worker
    prepare = config.prepare
    path, spec = (
        config.prepared_dir(KIND),
        Spec(
            KIND,
            VERSION,
            inputs={"tables": tables.artifact.fingerprint},
            config={
                "split": config.split.model_dump(),
                "min_item_count": prepare.min_item_count,
                "min_value_count": prepare.min_value_count,
            },
        ),
    )
    if artifact := current(path, spec):
        return artifact
    fields = [f for f in (*tables.schema.item_fields, *tables.schema.user_fields) if f.kind in ("categorical", "multi")]
    with create(path, spec) as draft, progress(KIND, draft.dir, "*.parquet", 2 + len(fields)):
        counts = run_pipeline(lambda pipeline: build(pipeline, tables, config, draft.dir), pipeline_args)
        if not counts.get("train_events"):
            raise InputError(
                f"{config.tables_dir} leaves no train event: of {counts.get('events', 0)} events, "
                f"{counts.get('users_kept', 0)} users have {config.split.min_events} or more, and none lies in the "
                "train part. Cure: check the import, lower `split.min_events`, or move the `split` dates"
            )
        draft.counts.update(counts)
        draft.counts["items"] = pq.read_metadata(draft.dir / "items.parquet").num_rows
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
