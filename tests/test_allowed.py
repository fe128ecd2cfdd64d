"""Filters evaluated to bitmaps, against their definition item by item."""

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from filter_fixture import KINDS, filters, fulfils, items
from hypothesis import given
from hypothesis import strategies as st

from serving.allowed import Allowed, AllowedRows
from serving.filters import In, Not, parse_filter

TYPES = {
    "plain": {"brand": pa.string(), "tags": pa.list_(pa.string()), "price": pa.float64()},
    "dictionary": {
        "brand": pa.dictionary(pa.int32(), pa.string()),
        "tags": pa.list_(pa.dictionary(pa.int32(), pa.string())),
        "price": pa.float64(),
    },
}


def columns(table: list[dict[str, Any]], layout: str) -> dict[str, pa.Array]:
    return {name: pa.array([item[name] for item in table], TYPES[layout][name]) for name in KINDS}


@pytest.mark.parametrize("layout", sorted(TYPES))
@given(table=st.lists(items, min_size=1, max_size=30), value=filters, data=st.data())
def test_allowed_rows_are_those_whose_item_fulfils_the_filter(
    layout: str, table: list[dict[str, Any]], value: dict[str, Any], data: st.DataObject
) -> None:
    of_row = data.draw(st.lists(st.integers(0, len(table) - 1), min_size=1, unique=True))
    allowed = AllowedRows(columns(table, layout), np.array(of_row))(parse_filter(value, KINDS))
    expected = [row for row, item in enumerate(of_row) if fulfils(table[item], value)]
    assert allowed.rows().tolist() == expected
    assert (allowed.count, allowed.size) == (len(expected), len(of_row))


masks = st.lists(st.booleans(), min_size=1, max_size=70).map(np.array)


def allowed_of(mask: np.ndarray) -> Allowed:
    return Allowed.of(np.packbits(mask, bitorder="little"), len(mask))


@given(masks)
def test_contains_reads_the_bits(mask: np.ndarray) -> None:
    assert allowed_of(mask).contains(np.arange(len(mask))).tolist() == mask.tolist()


@given(masks, st.data())
def test_without_takes_away_exactly_the_rows(mask: np.ndarray, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(mask) - 1)))
    left = allowed_of(mask).without(np.array(rows, dtype=np.int64))
    assert left.rows().tolist() == [row for row in np.flatnonzero(mask) if row not in rows]


ONE = {"brand": pa.array([f"b{i}" for i in range(800)])}


def test_a_filter_asked_again_is_kept() -> None:
    rows = AllowedRows(ONE, np.arange(800))
    assert rows(In("brand", ("b3",))) is rows(In("brand", ("b3",)))
    assert rows(Not(In("brand", ("b3",)))).count == 799


def test_what_was_not_asked_for_longest_is_dropped_first() -> None:
    rows = AllowedRows(ONE, np.arange(800), capacity=3 * 104)  # 100 bytes of bits, 4 of one row
    first, second = rows(In("brand", ("b0",))), rows(In("brand", ("b1",)))
    rows(In("brand", ("b2",)))
    assert rows(In("brand", ("b0",))) is first
    rows(In("brand", ("b3",)))
    assert rows(In("brand", ("b0",))) is first
    assert rows(In("brand", ("b1",))) is not second


def test_threads_share_what_is_kept() -> None:
    rows = AllowedRows(ONE, np.arange(800), capacity=1000)
    wrong = []

    def ask(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 40, 300).tolist():
            found = rows(In("brand", (f"b{i}",))).rows().tolist()
            wrong.extend(found if found != [i] else [])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
