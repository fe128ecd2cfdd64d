"""pipeline/columns.py against plain Python."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns import FINE_TIME_START, TIME_END, parse_id, parse_multi, parse_number, parse_text, parse_time
from pipeline.errors import ConfigError, InputError
from pipeline.rejects import Sieve

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))


def verdicts(sieve: Sieve) -> dict[int, str]:
    return dict(sieve.rejected())


def times(values: pa.Array, **options: str) -> tuple[list[int], dict[int, str]]:
    sieve = Sieve(len(values))
    return parse_time(values, sieve, **options).to_pylist(), verdicts(sieve)


@given(
    st.lists(st.tuples(MOMENTS, st.sampled_from([" ", "T"]), st.sampled_from(["", "Z", "+02:00", "-0730"])), max_size=9)
)
def test_iso_8601_in_any_zone(moments: list[tuple[datetime, str, str]]) -> None:
    hours = {"": 0, "Z": 0, "+02:00": 2, "-0730": -7.5}
    text = [f"{moment.isoformat(sep)}{zone}" for moment, sep, zone in moments]
    expected = [m.replace(tzinfo=timezone(timedelta(hours=hours[zone]))).timestamp() // 1 for m, _, zone in moments]
    inside = [0 <= second < 4_102_444_800 for second in expected]
    got, bad = times(pa.array(text, pa.string()))
    assert [i not in bad for i in range(len(text))] == inside
    assert [g for g, good in zip(got, inside, strict=True) if good] == [
        e for e, good in zip(expected, inside, strict=True) if good
    ]


@given(st.lists(MOMENTS, max_size=9), st.sampled_from(["%d/%m/%Y %H:%M:%S", "%Y%m%d%H%M%S", "%b %d %Y %I:%M:%S %p"]))
def test_a_strptime_format_reads_what_strftime_wrote(moments: list[datetime], time_format: str) -> None:
    expected = [int(moment.replace(microsecond=0, tzinfo=UTC).timestamp()) for moment in moments]
    got, bad = times(pa.array([m.strftime(time_format) for m in moments], pa.string()), time_format=time_format)
    assert (got, bad) == (expected, {})


UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@given(st.lists(st.integers(FINE_TIME_START, TIME_END - 1), max_size=9), st.sampled_from(list(UNITS)))
def test_numbers_count_units_as_text_and_as_integers(seconds: list[int], unit: str) -> None:
    numbers = [s * UNITS[unit] + UNITS[unit] // 2 for s in seconds]
    for column in (pa.array(numbers, pa.int64()), pa.array([str(n) for n in numbers], pa.string())):
        assert times(column, unit=unit) == (seconds, {})


@given(st.lists(st.tuples(st.integers(FINE_TIME_START, TIME_END - 1), st.sampled_from(list(UNITS))), max_size=9))
def test_mixed_units_are_told_apart_by_magnitude(moments: list[tuple[int, str]]) -> None:
    numbers = [second * UNITS[unit] for second, unit in moments]
    columns = (pa.array(numbers, pa.int64()), pa.array([f"{n}.0" for n in numbers], pa.string()))
    for column in columns:
        sieve = Sieve(len(moments))
        assert parse_time(column, sieve, unit="auto").to_pylist() == [second for second, _ in moments]
        units = [unit for _, unit in moments]
        assert sieve.noted() == {f"time_in_{unit}": units.count(unit) for unit in UNITS if unit in units}


@given(st.integers(FINE_TIME_START, TIME_END - 1), st.permutations(list(UNITS)))
def test_a_number_of_another_unit_than_the_one_given_is_out_of_range(second: int, units: list[str]) -> None:
    is_in, given_unit = units[:2]
    assert times(pa.array([second * UNITS[is_in]]), unit=given_unit)[1] == {0: "timestamp_out_of_range"}


def test_a_number_that_fits_no_unit_is_out_of_range() -> None:
    assert times(pa.array([9_999_999_999, -1]), unit="auto")[1] == dict.fromkeys(range(2), "timestamp_out_of_range")


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("881250949.0", 881250949),
        (" 12 ", 12),
        ("+5", 5),
        ("1e9", 10**9),
        ("1.9", 1),
        ("000123", 123),
        ("1970-01-01", 0),
    ],
)
def test_times_as_text(text: str, second: int) -> None:
    assert times(pa.array([text])) == ([second], {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing_timestamp"),
        (None, "missing_timestamp"),
        ("yesterday", "unparsable_timestamp"),
        ("now", "unparsable_timestamp"),
        ("Today", "unparsable_timestamp"),
        ("2007-02-30", "unparsable_timestamp"),
        ("2007-01-01 25:00:00", "unparsable_timestamp"),
        ("nan", "unparsable_timestamp"),
        ("-1", "timestamp_out_of_range"),
        ("1969-12-31T23:59:59Z", "timestamp_out_of_range"),
        ("4102444800", "timestamp_out_of_range"),
        ("9" * 19, "timestamp_out_of_range"),
        ("9" * 400, "timestamp_out_of_range"),
        ("2100-01-01", "timestamp_out_of_range"),
    ],
)
def test_bad_times_are_rejected_beside_good_ones(text: str | None, reason: str) -> None:
    assert times(pa.array(["7", text, "2000-01-01"])) == ([7, 0, 946684800], {1: reason})


def test_times_in_typed_columns() -> None:
    moment = datetime(2017, 1, 28, 19, 6, 53, 999_999)
    second = int(moment.replace(microsecond=0, tzinfo=UTC).timestamp())
    for column in (
        pa.array([moment, None], pa.timestamp("us")),
        pa.array([moment, None], pa.timestamp("ns")),
        pa.array([moment.replace(tzinfo=UTC), None], pa.timestamp("us", tz="Europe/Berlin")),
        pa.array([second + 0.9, None]),
        pa.array([second, None], pa.uint32()),
        pa.array([str(second), None]).dictionary_encode(),
    ):
        assert times(column) == ([second, 0], {1: "missing_timestamp"})
    assert times(pa.array([date(1970, 1, 2)])) == ([86_400], {})
    assert times(pa.array([2**63 + 5], pa.uint64())) == ([0], {0: "timestamp_out_of_range"})
    assert times(pa.array([20071225]), time_format="%Y%m%d") == ([1198540800], {})


def test_a_format_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="time_format"):
        times(pa.array(["2007"]), time_format="%Q")


@given(st.lists(st.one_of(st.none(), st.floats(), st.text("0123456789.eE+- nax_", max_size=6)), max_size=12))
def test_numbers_agree_with_float(values: list[float | str | None]) -> None:
    texts = [value if value is None else str(value) for value in values]
    sieve = Sieve(len(texts))
    got = parse_number(pa.array(texts, pa.string()), "year", sieve).to_pylist()
    for i, text in enumerate(texts):
        expected = oracle_number(text)
        if expected is None:
            assert verdicts(sieve)[i] == "year_not_a_number"
        else:
            assert got[i] == (None if math.isnan(expected) else expected)
            assert i not in verdicts(sieve)


def oracle_number(text: str | None) -> float | None:
    """The number, NaN when missing, None when it is no finite number."""
    if text is None or not text.strip():
        return math.nan
    try:
        number = float(text.strip().replace("_", "x"))
    except ValueError:
        return None
    return None if math.isinf(number) or (math.isnan(number) and text.strip().lower() != "nan") else number


def test_numbers_of_other_types() -> None:
    sieve = Sieve(2)
    assert parse_number(pa.array([True, None]), "x", sieve).to_pylist() == [1.0, None]
    assert parse_number(pa.array([Decimal("1.5"), None]), "x", sieve).to_pylist() == [1.5, None]
    assert parse_number(pa.array([3, None], pa.int8()), "x", sieve).to_pylist() == [3.0, None]
    assert parse_number(pa.array(["3", None]).dictionary_encode(), "x", sieve).to_pylist() == [3.0, None]
    assert verdicts(sieve) == {}


WORDS = st.text(st.sampled_from("ab, é"), max_size=8)


@given(st.lists(WORDS, max_size=8))
def test_multi_values_are_distinct_and_in_order(rows: list[str]) -> None:
    expected = [[*dict.fromkeys(" ".join(part.split()) for part in row.split(",") if part.strip())] for row in rows]
    assert parse_multi(pa.array(rows, pa.string()), "tags", ",", Sieve(len(rows))).to_pylist() == expected


def test_multi_values_of_lists_and_slices() -> None:
    column = pa.array([["x"], ["b", "a", "b", None, " "], None, [], ["a"]]).slice(1)
    assert parse_multi(column, "tags", "|", Sieve(4)).to_pylist() == [["b", "a"], [], [], ["a"]]
    assert parse_multi(pa.array([[1, 2, 1]]), "tags", "|", Sieve(1)).to_pylist() == [["1", "2"]]


def test_ids_of_any_type_become_the_same_text() -> None:
    for column in (
        pa.array(["12"]),
        pa.array([12]),
        pa.array([12.0]),
        pa.array([b" 12"]),
        pa.array(["12"]).dictionary_encode(),
    ):
        assert parse_id(column, "user_id", Sieve(1)).to_pylist() == ["12"]


@given(st.lists(st.text(max_size=12), max_size=6))
def test_text_is_clean_once_it_was_read(values: list[str]) -> None:
    def read(texts: list[str]) -> list[str]:
        return parse_text(pa.array(texts, pa.string()), "title", Sieve(len(texts))).to_pylist()

    texts = read(values)
    assert read(texts) == texts
    left_out = {*map(chr, range(32)), *map(chr, range(127, 160)), "\ufeff"}
    for value, text in zip(values, texts, strict=True):
        assert not left_out & set(text)
        assert [c for c in text if not c.isspace()] == [c for c in value if not c.isspace() and c not in left_out]


def test_ids_that_are_none_are_rejected() -> None:
    sieve = Sieve(4)
    parse_id(pa.array([1.5, 2.0**60, math.nan, math.inf]), "user_id", sieve)
    assert verdicts(sieve) == {1: "user_id_not_text", 2: "missing_user_id", 3: "user_id_not_text"}
    sieve = Sieve(3)
    parse_id(pa.array([b"a", b"\xff", None]), "item_id", sieve)
    assert verdicts(sieve) == {1: "item_id_not_text", 2: "missing_item_id"}


def test_white_space_in_text_is_collapsed() -> None:
    assert parse_text(pa.array([" A \n B\tC ", "é  f", None]), "title", Sieve(3)).to_pylist() == ["A B C", "é f", ""]


def test_a_list_where_one_value_belongs_is_refused() -> None:
    with pytest.raises(InputError, match="kind: multi"):
        parse_text(pa.array([["a"]]), "genre", Sieve(1))


def test_the_first_reason_of_a_row_stands_and_rejected_rows_are_not_filtered() -> None:
    sieve = Sieve(4)
    sieve.reject(np.array([True, False, False, False]), "first")
    sieve.reject(np.array([True, True, False, False]), "second")
    sieve.filter(np.array([True, False, True, False]), "unwanted")
    assert sieve.rejected() == [(0, "first"), (1, "second")]
    assert sieve.filtered() == {"unwanted": 1}
    assert sieve.kept.tolist() == [3]
