"""What the data report compares: the log of this report, of the one before, and of the newest days."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.catalogue_counts import ValueSets
from pipeline import drift
from pipeline.artifacts import Artifact
from pipeline.catalogue import MISSING, Vocabularies
from pipeline.drift import Line, Sample
from pipeline.tables import FieldSchema, Tables

DISTRIBUTIONS, USERS = "distributions.parquet", "users.npy"
STORED = pa.schema([("of", pa.dictionary(pa.int16(), pa.string())), ("value", pa.string()), ("count", pa.int64())])
ITEMS = "item_id"


@dataclass(frozen=True)
class Log:
    """The log behind a report: its sample and the `drift.id_sample` of its users, uint64 [<= drift.ID_SAMPLE]."""

    sample: Sample
    users: np.ndarray

    @classmethod
    def of(cls, tables: Tables, vocabularies: Vocabularies) -> "Log":
        """All events that the vocabularies were made of, the users kept, items and fields by train events."""
        items, users = vocabularies.items, vocabularies.users
        trained = items.counts > 0
        counted = pa.table({"value": items.values.filter(pa.array(trained)), "count": items.counts[trained]})
        (fields,) = field_counts(tables, [counted], [pa.table({"value": users.values, "count": users.counts})])
        sample = Sample(vocabularies.artifact.counts["events"], len(users.values), counted, fields)
        return cls(sample, drift.id_sample(users.values))

    def write(self, folder: Path) -> None:
        sample = self.sample
        schema = STORED.with_metadata({"events": str(sample.events), "users": str(sample.users)})
        with pq.ParquetWriter(folder / DISTRIBUTIONS, schema, compression="zstd") as writer:
            for name, table in {ITEMS: sample.items, **sample.fields}.items():
                of = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int16), pa.array([name]))
                columns = {"of": of, "value": table["value"], "count": table["count"]}
                writer.write_table(pa.table(columns, schema=schema))
        np.save(folder / USERS, self.users)

    @classmethod
    def read(cls, report: Artifact, folder: str) -> "Log":
        """From the files of a report under `folder`: "" or "previous/"."""
        stored = pq.read_table(report.file(folder + DISTRIBUTIONS))
        counted = stored.select(["value", "count"])
        of, metadata = stored["of"].cast(pa.string()), stored.schema.metadata
        named = {name: counted.filter(pc.equal(of, name)) for name in of.unique().to_pylist()}
        items = named.pop(ITEMS, counted.slice(0, 0))
        sample = Sample(int(metadata[b"events"]), int(metadata[b"users"]), items, named)
        return cls(sample, np.load(report.file(folder + USERS)))

    def compare(self, before: "Log") -> list[Line]:
        """Both as they are: windows of days that overlap, so that chance has no meaning."""
        new_items = drift.new_share(self.sample.items, before.sample.items)
        new_users = drift.new_id_share(self.users, before.users)
        return drift.compare(self.sample, before.sample, new_items, new_users, chance=False)


def compare_days(tables: Tables, days: dict[str, Artifact], seen_days: int) -> tuple[str, str, list[Line]]:
    """(newest date, the date before, lines). days: the coded events of two dates or more, ascending.

    New is what has no event in the `seen_days` dates before the newest.
    """
    *earlier, before, newest = days
    now, then = (drift.count_ids(days[day].locations("events-")) for day in (newest, before))
    recent = [part for day in [*earlier, before][-seen_days:] for part in days[day].locations("events-")]
    seen_users, seen_items = drift.seen(now, recent)
    events = now.items["count"].to_numpy()
    new_items, new_users = float(events[~seen_items].sum() / events.sum()), float(1 - seen_users.mean())
    fields = field_counts(tables, [now.items, then.items], [now.users, then.users])
    a, b = (Sample(ids.events, len(ids.users), ids.items, f) for ids, f in zip((now, then), fields, strict=True))
    return newest, before, drift.compare(a, b, new_items, new_users, chance=True)


# ---- fields

Fields = list[dict[str, pa.Table]]


def field_counts(tables: Tables, items: Sequence[pa.Table], users: Sequence[pa.Table]) -> Fields:
    """For each of K logs, a counted table of every categorical and multi-valued field by `side.name`: how many events
    carry each value.

    items, users: counted tables of the events of each id, K of both.
    """
    sides = (
        _side_counts(tables.artifact.file("items.parquet"), "item", tables.schema.item_fields, items),
        _side_counts(tables.artifact.file("users.parquet"), "user", tables.schema.user_fields, users),
    )
    return [{**of_items, **of_users} for of_items, of_users in zip(*sides, strict=True)]


def _side_counts(path: Path, side: str, fields: Sequence[FieldSchema], logs: Sequence[pa.Table]) -> Fields:
    ids = _column(path, f"{side}_id")
    of_rows = [_events_of(ids, counted) for counted in logs]
    found: Fields = [{} for _ in logs]
    for field in fields:
        if field.kind in ("categorical", "multi"):
            sets = ValueSets.of(_column(path, field.name), field.kind)
            for of_log, of_row, counted in zip(found, of_rows, logs, strict=True):
                outside = pc.sum(counted["count"]).as_py() or 0
                of_log[f"{side}.{field.name}"] = _carried(sets, of_row, outside - int(of_row.sum()))
    return found


def _events_of(ids: pa.ChunkedArray, counted: pa.Table) -> np.ndarray:
    """The count of each id, int64 [n]; 0 for those that are not counted."""
    place = pc.fill_null(pc.index_in(ids.cast(pa.string()), value_set=counted["value"]), -1).to_numpy()
    return np.append(counted["count"].to_numpy(), 0)[place]


def _carried(sets: ValueSets, of_row: np.ndarray, outside: int) -> pa.Table:
    """The events that carry each value; `outside`: events of ids that the table lacks, which miss every value."""
    counts = np.bincount(sets.codes, weights=np.repeat(of_row, sets.lengths), minlength=len(sets.values))
    carried = pa.table({"value": sets.values, "count": counts.astype(np.int64)})
    return blocks.sum_strings([carried, pa.table({"value": [MISSING], "count": [outside]})])


def _column(path: Path, name: str) -> pa.ChunkedArray:
    return pq.read_table(path, columns=[name])[name]
