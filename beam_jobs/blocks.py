"""Column blocks: what travels between the steps of a job. numpy and Arrow only, no Beam.

A block is the bytes of one Arrow IPC stream holding one record batch. Strings travel dictionary-encoded, so
that hashing, comparing and counting touch each distinct string of a block once, not once per row.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.split import order_by
from pipeline.storage import Location, in_parallel, open_parquet
from pipeline.storage import write_part as write_part

# Fixed: the partition of a string must be the same in every process, on every machine, on every day.
HASH_KEY = "twotower-blocks1"

# A byte that goes to another machine costs a runner's time, so a block that shrinks is worth its compression. zstd
# shrinks sorted integers further, but takes longer than the bytes it saves.
COMPRESSION = "lz4"


def pack(table: pa.Table, compression: str | None = COMPRESSION) -> bytes:
    """A table -> one block."""
    sink = pa.BufferOutputStream()
    table = table.combine_chunks()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(block: bytes) -> pa.Table:
    """One block -> its table."""
    return pa.ipc.open_stream(pa.py_buffer(block)).read_all()


def concat(blocks: Iterable[bytes]) -> pa.Table:
    """All blocks (one at least) as one table, with one dictionary per string column.

    Shuffles deliver in any order: the blocks are sorted by their bytes, so that the result depends on the
    content alone.
    """
    tables = [unpack(block) for block in sorted(blocks)]
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def string_hash(values: pa.Array) -> np.ndarray:
    """Strings [n] -> uint64 [n], the same in every process."""
    return pd.util.hash_array(values.to_numpy(zero_copy_only=False), hash_key=HASH_KEY, categorize=False)


def partition_of(column: pa.DictionaryArray, partitions: int) -> np.ndarray:
    """The partition of each row of a dictionary-encoded string column by the hash of its string: uint16 [n]."""
    of_value = (string_hash(column.dictionary) % np.uint64(partitions)).astype(np.uint16)
    return of_value[column.indices.to_numpy()]


def split(table: pa.Table, partition: np.ndarray, partitions: int) -> Iterator[tuple[int, pa.Table]]:
    """Cut a table into one per partition that has rows; the order of rows is kept.

    partition: integers in 0 .. partitions - 1, [rows].
    """
    order = np.argsort(partition.astype(np.uint16), kind="stable")
    ends = np.cumsum(np.bincount(partition, minlength=partitions))
    table = table.take(pa.array(order)).combine_chunks()
    for number, (start, stop) in enumerate(zip(ends - np.diff(ends, prepend=0), ends, strict=True)):
        if stop > start:
            yield number, compact(table.slice(start, stop - start))


def compact(table: pa.Table) -> pa.Table:
    """Drop the dictionary values that no row uses."""
    columns = [table.column(i).combine_chunks() for i in range(table.num_columns)]
    compacted = [_compact_column(c) if pa.types.is_dictionary(c.type) else c for c in columns]
    return pa.table(compacted, names=table.column_names)


def _compact_column(column: pa.DictionaryArray) -> pa.DictionaryArray:
    codes = column.indices.to_numpy()
    used = np.zeros(len(column.dictionary), dtype=bool)
    used[codes] = True
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(renumbered[codes]), column.dictionary.filter(pa.array(used)))


def dictionary(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, pa.Array]:
    """A dictionary-encoded column -> (codes int32 [n], values [distinct])."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.indices.to_numpy(), array.dictionary


def footer(path: Location | str) -> pq.FileMetaData:
    """What a Parquet file says of itself."""
    return open_parquet(path).metadata


def row_groups(paths: Iterable[Location]) -> list[tuple[str, int]]:
    """(path, row group number) of every row group of some Parquet files: the unit of parallel reading."""
    paths = list(paths)
    footers = in_parallel(footer, paths)
    return [(str(path), group) for path, of in zip(paths, footers, strict=True) for group in range(of.num_row_groups)]


def read_row_group(source: tuple[str, int], strings: list[str] | None = None) -> pa.Table:
    """One row group; those columns named in `strings` come dictionary-encoded with int32 codes."""
    path, group = source
    table = open_parquet(path, strings or []).read_row_group(group)
    for name in strings or []:
        if not pa.types.is_dictionary(table[name].type):
            table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    return table.unify_dictionaries().combine_chunks()


def sum_by_key(keys: np.ndarray, values: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sort and run-length: the distinct keys, ascending, and the sum of the values of each (None: 1 each).

    keys: int64 [n], >= 0; values: integers >= 0, or floats. Sums of integers are int64; sums of floats are
    float64, added in the order of the rows.
    """
    if values is None:
        keys = np.sort(keys)
        starts = run_starts(keys)
        return keys[starts], np.diff(starts, append=len(keys))
    if values.dtype.kind == "f":
        order = order_by(keys)
        keys, values = keys[order], values[order]
    else:
        keys, values = sorted_columns(keys, values)
    starts = run_starts(keys)
    wide = np.float64 if values.dtype.kind == "f" else np.int64
    sums = np.add.reduceat(values, starts, dtype=wide) if len(keys) else np.zeros(0, wide)
    return keys[starts], sums


def sorted_columns(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows of integers >= 0, sorted by the first column, then the second, ...: int64 [n] each.

    Where they fit, the columns are packed into one int64 that is sorted in place: numpy sorts those ten times faster
    than it sorts indices, and no row has to be fetched afterwards.
    """
    widths = [int(column.max(initial=0)).bit_length() for column in columns]
    if sum(widths) > 63:
        order = np.lexsort(columns[::-1])
        return tuple(column[order].astype(np.int64) for column in columns)
    packed = columns[0].astype(np.int64)
    for column, width in zip(columns[1:], widths[1:], strict=True):
        packed <<= width
        packed |= column
    packed.sort()
    unpacked = []
    for width in widths[:0:-1]:
        unpacked.append(packed & ((1 << width) - 1))
        packed >>= width
    return packed, *unpacked[::-1]


def distinct(keys: np.ndarray) -> np.ndarray:
    """The different values of integers >= 0, ascending: int64. (np.unique hashes, ten times slower.)"""
    keys = np.sort(keys)
    return keys[run_starts(keys)]


def divided(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """np.divmod(keys, size), in a third of its time."""
    item = keys // size
    return item, keys - item * size


def first_rows(keys: np.ndarray) -> np.ndarray:
    """The rows where each of some integers >= 0 appears first, ascending: int64."""
    sorted_keys, rows = sorted_columns(keys, np.arange(len(keys)))
    return np.sort(rows[run_starts(sorted_keys)])


def run_starts(keys: np.ndarray) -> np.ndarray:
    """Where each run of equal neighbours starts: int64 [runs]."""
    if not len(keys):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


def sum_strings(tables: Iterable[pa.Table]) -> pa.Table:
    """Add up tables with columns value: string, count: int64 (and maybe more int64 ones), largest first.

    Equal counts are ordered by value, so that the result does not depend on the order of the tables.
    """
    table = pa.concat_tables(tables)
    names = [name for name in table.column_names if name != "value"]
    summed = table.group_by("value").aggregate([(name, "sum") for name in names])
    summed = summed.rename_columns(["value", *names]) if names else summed
    return largest_first(summed)


def largest_first(table: pa.Table) -> pa.Table:
    """Sort by count, descending, then by value."""
    return table.take(pc.sort_indices(table, sort_keys=[("count", "descending"), ("value", "ascending")]))
