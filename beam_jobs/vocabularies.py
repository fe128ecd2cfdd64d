"""Beam job: the window's events and the catalogue -> the vocabularies of items, users and field values."""

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
from beam_jobs.catalogue_counts import VALUES, CountedChunk, counted_fields, read_chunks
from beam_jobs.chunks import SIDES
from beam_jobs.events import UserEvents
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.window_events import WindowEvents, item_ids, read_users
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import KIND, MISSING, NUMERIC_FILE, VERSION, field_file
from pipeline.config import Config, PrepareConfig, SplitConfig
from pipeline.errors import InputError
from pipeline.split import time_bounds
from pipeline.storage import Location, open_parquet
from pipeline.tables import FieldSchema, Tables

# ---- kernels: numpy and Arrow in, numpy and Arrow out


def count_train(events: UserEvents, split: SplitConfig) -> tuple[pa.Table, pa.Table]:
    """Train events of each kept user and of each item.

    Users with fewer than `split.min_events` events (over all parts) are left out, with all their events.
    Returns: users, with columns value: string, count: int64 (a kept user may have count 0); items, with columns
      code: int32, count: int64 > 0.
    """
    events = events.select(np.flatnonzero(events.lengths >= split.min_events))
    train = events.train_rows(split)
    of_user = np.diff(np.concatenate(([0], np.cumsum(train)))[events.offsets])
    of_item = np.bincount(events.items[train])
    trained = np.flatnonzero(of_item)
    users = pa.table({"value": events.user_ids, "count": of_user})
    return users, pa.table({"code": trained.astype(np.int32), "count": of_item[trained]})


def merge_items(counted: Iterable[pa.Table], ids: pa.Array, catalogue: pa.Array, minimum: int) -> pa.Table:
    """Add up the train events of items (code, count) -> value, count in index order.

    ids: of the codes. Items of the catalogue are all there, others need `minimum` events.
    """
    counts = np.zeros(len(ids), dtype=np.int64)
    for table in counted:
        counts[table["code"].to_numpy()] += table["count"].to_numpy()
    place = np.asarray(pc.fill_null(pc.index_in(ids, value_set=catalogue), -1))
    listed = np.zeros(len(catalogue), dtype=np.int64)
    listed[place[place >= 0]] = counts[place >= 0]
    outside = (place < 0) & (counts > 0)
    enough = outside & (counts >= minimum)
    count("items_outside_catalogue", np.count_nonzero(enough))
    count("items_dropped", np.count_nonzero(outside & ~enough))
    count("items_trained", np.count_nonzero(listed) + np.count_nonzero(enough))
    values = pa.concat_arrays([catalogue, ids.filter(pa.array(enough))])
    return blocks.largest_first(pa.table({"value": values, "count": np.concatenate((listed, counts[enough]))}))


def bucket_boundaries(numbers: np.ndarray, buckets: int) -> np.ndarray:
    """The inner `buckets` quantiles of some numbers, ascending and distinct: float64 [<= buckets - 1].

    Each is one of the numbers, and begins a bucket (boundary <= x). The smallest number is no boundary:
    nothing would lie below it.
    """
    if not len(numbers):
        return np.zeros(0)
    # np.quantile(method="higher") but for its rounding: 0.6 * 5 is more than 3.
    places = -(-np.arange(1, buckets) * (len(numbers) - 1) // buckets)
    distinct = np.unique(np.sort(numbers)[places])
    return distinct[distinct > numbers.min()]


# ---- Beam

Users = pvalue.TaggedOutput[Literal["users"], bytes]


class CountTrain(beam.DoFn):
    """(partition of users, its file) -> items: one block; users: one block."""

    def __init__(self, split: SplitConfig, prepare: PrepareConfig) -> None:
        self.split, self.prepare = split, prepare

    def process(self, element: tuple[int, str]) -> Iterator[bytes | Users]:
        events = read_users(element[1], self.prepare)
        users, items = count_train(events, self.split)
        count("events", len(events.items))
        count("users_kept", len(users))
        count("users_dropped", len(events.user_ids) - len(users))
        count("train_events", pc.sum(users["count"]).as_py() or 0)
        yield pvalue.TaggedOutput("users", blocks.pack(users))
        yield blocks.pack(items)


def write_items(_: None, counted: list[bytes], ids: str, catalogue: str, minimum: int, path: str) -> None:
    """Write the vocabulary of items."""
    listed = open_parquet(catalogue).read(columns=["item_id"])["item_id"].combine_chunks().cast(pa.string())
    write_values(path, merge_items(map(blocks.unpack, counted), item_ids(ids), listed, minimum))


def write_users(_: None, counted: list[bytes], path: str) -> None:
    """Write the vocabulary of users, each counted in one block."""
    nothing = pa.table({"value": pa.array([], pa.string()), "count": np.zeros(0, dtype=np.int64)})
    write_values(path, blocks.largest_first(pa.concat_tables([nothing, *(blocks.unpack(b) for b in counted)])))


class WriteField(beam.DoFn):
    """(side, number of a field, the field) -> its vocabulary file; gives (side.name, boundaries) of a numeric one."""

    def __init__(self, chunks: dict[str, list[CountedChunk]], folder: Location, minimum: int) -> None:
        self.chunks, self.folder, self.minimum = chunks, str(folder), minimum

    def process(self, element: tuple[str, int, FieldSchema]) -> Iterator[tuple[str, list[float]]]:
        side, number, field = element
        counted = pa.concat_tables([VALUES.empty_table(), *(chunk.values(number) for chunk in self.chunks[side])])
        if field.kind == "numeric":
            numbers = np.repeat(counted["number"].to_numpy(), counted["count"].to_numpy())
            yield f"{side}.{field.name}", bucket_boundaries(numbers[~np.isnan(numbers)], field.buckets).tolist()
            return
        # "" keeps its index whatever its count: an item seen later may miss the value.
        missing = pa.table({"value": [MISSING], "count": [0]})
        table = blocks.sum_strings([missing, counted.select(["value", "count"])])
        kept = pc.or_(pc.greater_equal(table["count"], self.minimum), pc.equal(table["value"], MISSING))
        count("values_dropped", pc.sum(pc.invert(kept)).as_py() or 0)
        write_values(f"{self.folder}/{field_file(side, field.name)}", table.filter(kept))


def write_values(path: str, table: pa.Table) -> None:
    """Write a vocabulary file (pipeline/vocabulary.py); the table is in index order."""
    blocks.write_part(path, lambda aside: pq.write_table(table, aside))


def write_boundaries(_: None, boundaries: dict[str, list[float]], path: str) -> None:
    """Write the bucket boundaries of all numeric fields."""
    text = json.dumps(boundaries, sort_keys=True)
    blocks.write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


def build(
    pipeline: beam.Pipeline,
    tables: Tables,
    window: WindowEvents,
    chunks: dict[str, list[CountedChunk]],
    config: Config,
    folder: Location,
) -> None:
    """Add the whole job to a pipeline; it writes into `folder`."""
    minimum = max(1, config.prepare.min_item_count)
    one = pipeline | "once" >> beam.Create([None])
    counted = (
        pipeline
        | "users" >> beam.Create(window.sources())
        | beam.ParDo(CountTrain(config.split, config.prepare))
        .with_output_types(bytes)
        .with_outputs("users", main="items")
    )
    catalogue = str(tables.artifact.location("items.parquet"))
    one | "write items" >> beam.Map(
        write_items,
        pvalue.AsList(counted["items"]),
        str(window.items),
        catalogue,
        minimum,
        str(folder / "items.parquet"),
    )
    one | "write users" >> beam.Map(write_users, pvalue.AsList(counted["users"]), str(folder / "users.parquet"))
    fields = [
        (side, number, field)
        for side, schema in zip(SIDES, (tables.schema.item_fields, tables.schema.user_fields), strict=True)
        for number, field in enumerate(counted_fields(schema))
    ]
    boundaries = (
        pipeline
        | "fields" >> beam.Create(fields)
        | beam.ParDo(WriteField(chunks, folder, config.prepare.min_value_count))
    )
    one | "numeric" >> beam.Map(write_boundaries, pvalue.AsDict(boundaries), str(folder / NUMERIC_FILE))


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the vocabularies unless they are current. Needs the window's events and the counted catalogue.

    Raises InputError when no event is left to train on.
    """
    tables, window = Tables.read(config.tables_dir), WindowEvents.read(config)
    catalogue, chunks = read_chunks(config)
    if config.split.kind == "time":
        time_bounds(config.split)  # refuse an impossible split here, not in a worker
    path, spec = config.prepared_dir(KIND), _spec(config, tables, window, catalogue)
    if artifact := current(path, spec):
        return artifact
    fields = [f for f in (*tables.schema.item_fields, *tables.schema.user_fields) if f.kind in ("categorical", "multi")]
    with create(path, spec) as draft, progress(KIND, [draft.target], "*.parquet", 2 + len(fields)):
        counts = run_pipeline(
            lambda pipeline: build(pipeline, tables, window, chunks, config, draft.target), pipeline_args
        )
        if not counts.get("train_events"):
            raise InputError(
                f"{config.tables_dir} leaves no train event: of {counts.get('events', 0)} events, "
                f"{counts.get('users_kept', 0)} users have {config.split.min_events} or more, and none lies in the "
                "train part. Cure: check the import, lower `split.min_events`, or move the `split` dates"
            )
        draft.counts.update(counts)
        draft.counts["items"] = blocks.footer(draft.target / "items.parquet").num_rows
    return open_artifact(path, KIND, VERSION)


def _spec(config: Config, tables: Tables, window: WindowEvents, catalogue: Artifact) -> Spec:
    prepare = config.prepare
    buckets = {
        f.name: f.buckets for f in (*tables.schema.item_fields, *tables.schema.user_fields) if f.kind == "numeric"
    }
    return Spec(
        KIND,
        VERSION,
        inputs={
            "window_events": window.artifact.fingerprint,
            "catalogue_counts": catalogue.fingerprint,
            "items": tables.artifact.checksum("items.parquet"),
        },
        config={
            "split": config.split.model_dump(),
            "max_user_events": prepare.max_user_events,
            "min_item_count": prepare.min_item_count,
            "min_value_count": prepare.min_value_count,
            "buckets": buckets,
        },
    )


if __name__ == "__main__":
    sys.exit(main(run))
