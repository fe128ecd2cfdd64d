"""Blocks of raw columns into the tables: what all importers share."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import parse_field, parse_id, parse_number, parse_time
from pipeline.errors import InputError, nearest
from pipeline.rejects import Account, Block, Sieve
from pipeline.tables import EVENTS, FieldSchema
from pipeline.write_events import EventsWriter


@dataclass(frozen=True)
class EventColumns:
    """Where a file keeps the parts of an event, and how its times are written."""

    user_id: str
    item_id: str
    timestamp: str
    rating: str | None = None
    time_unit: str = "s"
    time_format: str | None = None

    def names(self) -> list[str]:
        """The distinct columns to read."""
        columns = (self.user_id, self.item_id, self.timestamp, self.rating)
        return list(dict.fromkeys(name for name in columns if name is not None))


@dataclass(frozen=True)
class FieldColumn:
    """A field and where a file keeps it."""

    field: FieldSchema
    column: str
    separator: str = "|"


def ingest_events(
    blocks: Iterable[Block],
    columns: EventColumns,
    minimum_rating: float | None,
    writer: EventsWriter,
) -> None:
    """Write the events of one file. Those rated below the minimum are filtered (`below_minimum_rating`), and put aside
    as negatives if the writer keeps them.

    Rejects `timestamp_in_the_future`, later than the writer's limit.
    """
    for block in blocks:
        sieve = Sieve(len(block))
        users = parse_id(block.columns[columns.user_id], "user_id", sieve)
        items = parse_id(block.columns[columns.item_id], "item_id", sieve)
        times = parse_time(block.columns[columns.timestamp], sieve, columns.time_unit, columns.time_format)
        writer.reject_future(times, sieve)
        negative = np.zeros(len(block), dtype=bool)
        if columns.rating is not None:
            ratings = parse_number(block.columns[columns.rating], "rating", sieve)
            sieve.reject(ratings.is_null().to_numpy(zero_copy_only=False) & sieve.good, "missing_rating")
            if minimum_rating is not None:
                negative = pc.fill_null(pc.less(ratings, minimum_rating), False).to_numpy(zero_copy_only=False)
                sieve.filter(negative, "below_minimum_rating")
        kept = writer.account.settle(block, sieve)
        events = pa.table([users, items, times], schema=EVENTS)
        if writer.keep_negatives:
            writer.add_negatives(events.filter(pa.array(negative & sieve.good)))
        writer.add(events if len(kept) == len(block) else events.take(pa.array(kept)))


def ingest_catalogue(
    blocks: Iterable[Block], id_name: str, id_column: str, fields: Iterable[FieldColumn], account: Account
) -> pa.Table:
    """Items or users of one file, in its order; of rows with one id the first stays, the rest are rejected.

    Args: id_name: `item_id` or `user_id`, the name of the id in the table. Returns: id and fields, one row an id.
    """
    fields = list(fields)
    parsed: list[tuple[Block, Sieve, pa.Table]] = []
    for block in blocks:
        sieve = Sieve(len(block))
        columns = {id_name: parse_id(block.columns[id_column], id_name, sieve)}
        for source in fields:
            raw, field = block.columns[source.column], source.field
            columns[field.name] = parse_field(raw, field.name, field.kind, source.separator, sieve)
            if field.kind == "title":
                sieve.note(pc.equal(columns[field.name], "").to_numpy(zero_copy_only=False), f"missing_{field.name}")
        parsed.append((block, sieve, pa.table(columns)))
    _reject_duplicates(parsed, id_name)
    kept = [table.take(pa.array(account.settle(block, sieve))) for block, sieve, table in parsed]
    return pa.concat_tables(kept)


def _reject_duplicates(parsed: list[tuple[Block, Sieve, pa.Table]], id_name: str) -> None:
    """Reject all but the first good row of each id."""
    if not parsed:
        return
    ids = pa.concat_tables([table.select([id_name]) for _, _, table in parsed])[id_name].combine_chunks()
    good = np.flatnonzero(np.concatenate([sieve.good for _, sieve, _ in parsed]))
    codes = ids.take(pa.array(good)).dictionary_encode().indices.to_numpy()
    repeated = np.zeros(len(ids), dtype=bool)
    repeated[good] = True
    repeated[good[np.unique(codes, return_index=True)[1]]] = False
    start = 0
    for block, sieve, _ in parsed:
        sieve.reject(repeated[start : start + len(block)], f"duplicate_{id_name}")
        start += len(block)


def require_columns(where: str, present: list[str], wanted: dict[str, str]) -> None:
    """Raise InputError unless every wanted column (its use -> its name) is there, and only once.

    Args: where: the file, and the line of its header if it has one.
    """
    for use, name in wanted.items():
        if name not in present:
            raise InputError(
                f"{where}: no column `{name}` (needed as {use}).{nearest(name, present)} It has {present[:40]}. "
                "Cure: name a column it has"
            )
        if present.count(name) > 1:
            raise InputError(f"{where}: the column `{name}` is there twice. Cure: rename one of them")
