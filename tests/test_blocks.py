"""beam_jobs/blocks.py against plain Python."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import blocks

ROWS = st.lists(st.tuples(st.text(max_size=3), st.integers(-5, 5)), max_size=30)


def table_of(rows: list[tuple[str, int]]) -> pa.Table:
    text = pa.array([r[0] for r in rows], pa.string()).dictionary_encode()
    return pa.table({"text": text, "number": pa.array([r[1] for r in rows], pa.int64())})


def rows_of(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["text"].to_pylist(), table["number"].to_pylist(), strict=True))


@given(ROWS)
def test_a_block_unpacks_to_what_was_packed(rows):
    assert rows_of(blocks.unpack(blocks.pack(table_of(rows)))) == rows


@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_concat_does_not_depend_on_the_order_of_arrival(parts, random):
    packed = [blocks.pack(table_of(rows)) for rows in parts]
    table = blocks.concat(packed)
    assert sorted(rows_of(table)) == sorted(row for rows in parts for row in rows)
    assert blocks.concat(random.sample(packed, len(packed))).equals(table)


@given(ROWS, st.integers(1, 5))
def test_split_cuts_by_partition_and_keeps_the_order(rows, partitions):
    table = table_of(rows)
    partition = blocks.partition_of(table["text"].combine_chunks(), partitions)
    expected = defaultdict(list)
    for number, row in zip(partition.tolist(), rows, strict=True):
        expected[number].append(row)
    assert {n: rows_of(part) for n, part in blocks.split(table, partition, partitions)} == dict(expected)


@given(ROWS, st.integers(1, 5))
def test_equal_strings_share_a_partition_whatever_else_is_in_the_block(rows, partitions):
    whole = blocks.partition_of(table_of(rows)["text"].combine_chunks(), partitions)
    alone = [blocks.partition_of(table_of([row])["text"].combine_chunks(), partitions)[0] for row in rows]
    assert whole.tolist() == alone


def test_the_hash_of_a_string_is_the_same_on_every_day():
    # Golden: parts written by an earlier version must still belong to the partition their name says.
    assert blocks.string_hash(pa.array(["", "u1", "Amélie"])).tolist() == [
        12_465_819_404_119_882_878,
        1_905_956_602_722_699_455,
        982_831_378_356_098_168,
    ]


@given(st.lists(st.sampled_from("abcdef")), st.data())
def test_compact_drops_exactly_the_unused_values(values, data):
    rows = data.draw(st.lists(st.sampled_from(values))) if values else []
    column = pa.array(values, pa.string()).dictionary_encode()
    chosen = column.take(pa.array([values.index(v) for v in rows], pa.int64()))
    compacted = blocks.compact(pa.table({"text": chosen}))["text"].combine_chunks()
    assert compacted.to_pylist() == rows
    assert set(compacted.dictionary.to_pylist()) == set(rows)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 9))), st.integers(1, 2**40))
def test_sum_by_key_of_integers_is_a_counter(pairs, modulus):
    keys = np.array([k % modulus for k, _ in pairs], np.int64)
    values = np.array([v for _, v in pairs], np.int64)
    expected: Counter = Counter()
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        expected[key] += value
    distinct, sums = blocks.sum_by_key(keys, values)
    assert list(zip(distinct.tolist(), sums.tolist(), strict=True)) == sorted(expected.items())
    distinct, counts = blocks.sum_by_key(keys)
    assert list(zip(distinct.tolist(), counts.tolist(), strict=True)) == sorted(Counter(keys.tolist()).items())


def test_sum_by_key_of_floats():
    keys, sums = blocks.sum_by_key(np.array([7, 3, 7], np.int64), np.array([0.25, 1.0, 0.5]))
    assert (keys.tolist(), sums.tolist()) == ([3, 7], [1.0, 0.75])


@given(st.lists(st.lists(st.tuples(st.text(max_size=2), st.integers(0, 3))), min_size=1, max_size=4))
def test_sum_strings_orders_by_count_then_value(tables):
    expected: Counter = Counter()
    for rows in tables:
        for value, number in rows:
            expected[value] += number
    summed = blocks.sum_strings(
        pa.table(
            {"value": pa.array([v for v, _ in rows], pa.string()), "count": pa.array([n for _, n in rows], pa.int64())}
        )
        for rows in tables
    )
    ranked = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0].encode()))
    assert list(zip(summed["value"].to_pylist(), summed["count"].to_pylist(), strict=True)) == ranked


def test_row_groups_are_read_one_by_one_with_their_strings_encoded(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"text": ["b", "a", "b"], "number": [1, 2, 3]}), path, row_group_size=2)
    sources = blocks.row_groups([path])
    assert sources == [(str(path), 0), (str(path), 1)]
    read = [blocks.read_row_group(source, strings=["text"]) for source in sources]
    assert [rows_of(table) for table in read] == [[("b", 1), ("a", 2)], [("b", 3)]]
    assert all(pa.types.is_dictionary(table["text"].type) for table in read)


def test_a_part_that_fails_half_way_leaves_nothing(tmp_path):
    def fail(path: str) -> None:
        Path(path).write_text("half", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        blocks.write_part(tmp_path / "part-00000", fail)
    assert list(tmp_path.iterdir()) == []
