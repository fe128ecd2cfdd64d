"""Raw columns to canonical ones: ids, times, numbers, sets of values and titles, a block of rows at a time.

Each function takes an Arrow array of whatever type the source gave and a `Sieve` of the same length, marks the rows
whose value cannot be read, and returns an array of the canonical type (anything at all in the rejected rows).
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.errors import ConfigError, InputError
from pipeline.rejects import Sieve
from pipeline.tables import FieldKind

TIME_END = 4_102_444_800
"""2100-01-01: later times (and those before 1970) are taken for errors, mostly of the unit."""
FINE_TIME_START = 100_000_000
"""1973-03-03: a number of ms, us or ns before it is in truth one of a larger unit, or no time at all (9999999999)."""
MAX_ID_BYTES = 1024
"""Ids travel through every shuffle; a longer one is a value that slipped into the wrong column."""

_UNITS = ("s", "ms", "us", "ns")
_PER_SECOND = np.array([1, 10**3, 10**6, 10**9])
# Control characters but white space, and byte order marks inside a file. Joiners and direction marks are text.
_CONTROL = r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x{9f}\x{feff}]"
_UNUSUAL = rf"\s\s|[^\S ]|{_CONTROL}"
# Up to 19 digits as long as they fit int64; anything longer goes through float64 and is out of range anyway.
_INTEGER = r"^-?0*(\d{1,18}|[1-8]\d{18})$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_RELATIVE_TIME = r"(?i)^(now|today)$"
_EXACT_FLOAT = 2.0**53
_NOT_A_TIME = np.iinfo(np.int64).min


def parse_id(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """-> string [n], trimmed.

    Rejects `missing_<name>`, `<name>_not_text`, `<name>_control_character` and `<name>_too_long` (over MAX_ID_BYTES).
    """
    text, control = _clean(column, name, sieve)
    sieve.reject(control, f"{name}_control_character")
    sieve.reject(_mask(pc.equal(text, "")), f"missing_{name}")
    sieve.reject(_mask(pc.greater(pc.binary_length(text), MAX_ID_BYTES)), f"{name}_too_long")
    return text


def parse_text(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """-> string [n], white space trimmed and collapsed, missing as "". Rejects `<name>_not_text`.

    Control characters and byte order marks are left out (noted as `control_characters_removed`); emoji, joiners and
    marks of the direction of writing stay. Integral floating-point numbers lose their ".0": files written through
    floats (a column with gaps) then agree with those that were not. Beyond 2**53 such an id is ambiguous, and rejected.
    """
    text, control = _clean(column, name, sieve)
    sieve.note(control, "control_characters_removed")
    return text


def _clean(column: pa.Array, name: str, sieve: Sieve) -> tuple[pa.Array, np.ndarray]:
    """-> (string [n] without control characters, which rows had one: bool [n])."""
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_binary(column.type) or pt.is_large_binary(column.type):
        column = _decode(column, name, sieve)
    if pt.is_floating(column.type):
        column = _float_text(column.cast(pa.float64()), name, sieve)
    if pt.is_nested(column.type):
        raise InputError(f"column `{name}` holds {column.type}, not single values. Cure: declare it `kind: multi`")
    text = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    control = np.zeros(len(text), dtype=bool)
    if pc.any(pc.match_substring_regex(text, _UNUSUAL)).as_py():
        control = _mask(pc.match_substring_regex(text, _CONTROL))
        text = pc.replace_substring_regex(text, _CONTROL, "")
        text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"\s+", " "))
    return text, control


def parse_multi(column: pa.Array, name: str, separator: str, sieve: Sieve) -> pa.Array:
    """-> list<string> [n]: the distinct non-empty values of each row in order of appearance.

    Lists are taken as they are; anything else becomes text and is split at `separator`.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pt.is_list(column.type) or pt.is_large_list(column.type)):
        column = pc.split_pattern(parse_text(column, name, sieve), separator)
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = Sieve(len(rows))
    values = parse_text(pc.list_flatten(column), name, inner)
    sieve.reject(_any_of(rows, ~inner.good, len(column)), f"{name}_not_text")
    for what, noted in inner.notes.items():
        sieve.note(_any_of(rows, noted, len(column)), what)
    present = _mask(pc.not_equal(values, ""))
    rows, values = rows[present], values.filter(pa.array(present))
    encoded = values.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    first = np.sort(np.unique(rows * (len(encoded.dictionary) + 1) + codes, return_index=True)[1])
    offsets = np.concatenate(([0], np.cumsum(np.bincount(rows[first], minlength=len(column))))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(first)))


def _any_of(rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Which rows have one of `values` (bool [m], each of the row in `rows`, int64 [m]): bool [n]."""
    return np.bincount(rows[values], minlength=n) > 0


def parse_number(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """-> float64 [n], null where missing (empty, null, NaN). Rejects `<name>_not_a_number`, infinities among them."""
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not (pt.is_integer(column.type) or pt.is_floating(column.type) or pt.is_decimal(column.type)):
        text = parse_text(column, name, sieve)
        numeric = pc.match_substring_regex(text, _NUMBER)
        missing = pc.match_substring_regex(text, "(?i)^(nan)?$")
        sieve.reject(~_mask(pc.or_(numeric, missing)), f"{name}_not_a_number")
        column = pc.if_else(numeric, text, None)
    numbers = column.cast(pa.float64(), safe=False)
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    sieve.reject(_mask(pc.is_inf(numbers)), f"{name}_not_a_number")
    return numbers


def parse_field(column: pa.Array, name: str, kind: FieldKind, separator: str, sieve: Sieve) -> pa.Array:
    """One item or user field -> the Arrow type of its kind."""
    if kind == "multi":
        return parse_multi(column, name, separator, sieve)
    return parse_number(column, name, sieve) if kind == "numeric" else parse_text(column, name, sieve)


def parse_time(column: pa.Array, sieve: Sieve, unit: str = "s", time_format: str | None = None) -> pa.Array:
    """-> int64 [n], Unix seconds UTC, fractions cut off.

    Numbers count `unit`s since 1970, each the one its magnitude tells if `auto` (noted as `time_in_ms` and so on); text
    is read by `time_format` (strptime), else as a number, else as ISO 8601; times without a zone are UTC.

    Rejects `missing_timestamp`, `unparsable_timestamp` and `timestamp_out_of_range`: before 1970, or from TIME_END on;
    a number of ms, us or ns before FINE_TIME_START.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    units = np.full(len(column), -1)  # index into _UNITS of a number, -1 for anything else
    if pt.is_temporal(column.type) and not pt.is_time(column.type):
        sieve.reject(_mask(column.is_null()), "missing_timestamp")
        seconds = _timestamp_seconds(column)
    elif time_format is None and (pt.is_integer(column.type) or pt.is_floating(column.type)):
        sieve.reject(_mask(pc.is_null(column, nan_is_null=True)), "missing_timestamp")
        seconds, units = _number_seconds(column, unit)
    else:
        text = parse_text(column, "timestamp", sieve)
        sieve.reject(_mask(pc.equal(text, "")), "missing_timestamp")
        seconds, units = _text_seconds(text, unit, time_format)
        sieve.reject(seconds == _NOT_A_TIME, "unparsable_timestamp")
    sieve.reject((seconds < 0) | (seconds >= TIME_END), "timestamp_out_of_range")
    sieve.reject((units > 0) & (seconds < FINE_TIME_START), "timestamp_out_of_range")
    if unit == "auto":
        for code, name in enumerate(_UNITS):
            sieve.note(units == code, f"time_in_{name}")
    return pa.array(np.where(sieve.good, seconds, 0).astype(np.int64))


def _timestamp_seconds(column: pa.Array) -> np.ndarray:
    """date, timestamp [n] -> int64 [n]; 0 where null."""
    moments = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False)
    return np.floor_divide(np.asarray(pc.fill_null(moments.cast(pa.int64()), 0)), 1_000_000)


def _number_seconds(column: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """int or float [n] -> (seconds int64 [n], 0 where null; index of the unit [n]).

    Too large for int64 becomes its largest value.
    """
    numbers = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    if numbers.dtype == np.uint64:
        numbers = np.minimum(numbers, np.uint64(np.iinfo(np.int64).max))
    numbers = numbers.astype(np.float64 if numbers.dtype.kind == "f" else np.int64)
    if unit == "auto":
        units = np.searchsorted(TIME_END * _PER_SECOND[:-1], np.nan_to_num(numbers), side="right")
    else:
        units = np.full(len(numbers), _UNITS.index(unit))
    if numbers.dtype == np.int64:
        return np.floor_divide(numbers, _PER_SECOND[units]), units
    seconds = np.nan_to_num(np.floor(numbers / _PER_SECOND[units]))
    return np.clip(seconds, -(2.0**62), 2.0**62).astype(np.int64), units


def _text_seconds(text: pa.Array, unit: str, time_format: str | None) -> tuple[np.ndarray, np.ndarray]:
    """string [n] -> (seconds int64 [n], _NOT_A_TIME where it is none; index of the unit of a number [n], else -1)."""
    units = np.full(len(text), -1)
    if time_format is not None:
        return _moment_seconds(text, time_format), units
    integer, number = (_mask(pc.match_substring_regex(text, pattern)) for pattern in (_INTEGER, _NUMBER))
    if integer.all():
        return _number_seconds(text.cast(pa.int64()), unit)
    seconds = np.full(len(text), _NOT_A_TIME)
    for rows, kind in ((integer, pa.int64()), (number & ~integer, pa.float64())):
        seconds[rows], units[rows] = _number_seconds(text.filter(pa.array(rows)).cast(kind), unit)
    seconds[~number] = _moment_seconds(text.filter(pa.array(~number)), "ISO8601")
    return seconds, units


def _moment_seconds(text: pa.Array, time_format: str) -> np.ndarray:
    """string [n] -> int64 [n] by a strptime format, or pandas' "ISO8601"; _NOT_A_TIME where it does not fit."""
    # pandas reads "now" and "today" as the time of the import, whatever the format.
    text = pc.if_else(pc.match_substring_regex(text, _RELATIVE_TIME), None, text)
    strings = pd.Series(text.to_numpy(zero_copy_only=False), dtype=object)
    try:
        moments = pd.to_datetime(strings, format=time_format, errors="coerce", utc=True)
    except ValueError as error:
        raise ConfigError(f"`source.table.time_format` {time_format!r} is no strptime format: {error}") from None
    micros = moments.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    return np.where(moments.isna(), _NOT_A_TIME, np.floor_divide(micros, 1_000_000))


def _float_text(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """float64 [n] -> string [n]; integral values without the ".0", NaN as null."""
    values = np.nan_to_num(column.to_numpy(zero_copy_only=False), nan=0.5)
    sieve.reject(np.abs(values) > _EXACT_FLOAT, f"{name}_not_text")
    integral = (np.floor(values) == values) & (np.abs(values) <= _EXACT_FLOAT)
    whole = pa.array(np.where(integral, values, 0).astype(np.int64)).cast(pa.string())
    text = pc.if_else(pa.array(integral), whole, column.cast(pa.string()))
    return pc.if_else(pc.is_null(column, nan_is_null=True), None, text)


def _decode(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """binary [n] -> string [n]. Rejects `<name>_not_text` where it is not UTF-8."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [None if value is None else _utf8_or_none(value) for value in column.to_pylist()]
        decoded = pa.array(texts, pa.string())
        sieve.reject(_mask(decoded.is_null()) & ~_mask(column.is_null()), f"{name}_not_text")
        return decoded


def _utf8_or_none(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _mask(values: pa.Array) -> np.ndarray:
    """bool [n], null as False."""
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)
