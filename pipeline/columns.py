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

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Up to 19 digits as long as they fit int64; anything longer goes through float64 and is out of range anyway.
_INTEGER = r"^-?0*(\d{1,18}|[1-8]\d{18})$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_RELATIVE_TIME = r"(?i)^(now|today)$"
_EXACT_FLOAT = 2.0**53
_NOT_A_TIME = np.iinfo(np.int64).min


def parse_id(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """-> string [n], trimmed. Rejects `missing_<name>` and `<name>_not_text`."""
    text = parse_text(column, name, sieve)
    sieve.reject(_mask(pc.equal(text, "")), f"missing_{name}")
    return text


def parse_text(column: pa.Array, name: str, sieve: Sieve) -> pa.Array:
    """-> string [n], white space trimmed and collapsed, missing as "". Rejects `<name>_not_text`.

    Integral floating-point numbers lose their ".0": files written through floats (a column with gaps) then agree
    with those that were not. Beyond 2**53 such an id is ambiguous, and rejected.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_binary(column.type) or pt.is_large_binary(column.type):
        column = _decode(column, name, sieve)
    if pt.is_floating(column.type):
        column = _float_text(column.cast(pa.float64()), name, sieve)
    if pt.is_nested(column.type):
        raise InputError(f"column `{name}` holds {column.type}, not single values. Cure: declare it `kind: multi`")
    text = pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    spaced = pc.match_substring_regex(text, r"\s\s|[^\S ]")
    return pc.replace_substring_regex(text, r"\s+", " ") if pc.any(spaced).as_py() else text


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
    bad = np.zeros(len(column), dtype=bool)
    bad[rows[~inner.good]] = True
    sieve.reject(bad, f"{name}_not_text")
    present = _mask(pc.not_equal(values, ""))
    rows, values = rows[present], values.filter(pa.array(present))
    encoded = values.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    first = np.sort(np.unique(rows * (len(encoded.dictionary) + 1) + codes, return_index=True)[1])
    offsets = np.concatenate(([0], np.cumsum(np.bincount(rows[first], minlength=len(column))))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(first)))


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

    Numbers count `unit`s since 1970; text is read by `time_format` (strptime), else as a number, else as ISO 8601;
    times without a zone are UTC. Rejects `missing_timestamp`, `unparsable_timestamp` and `timestamp_out_of_range`
    (before 1970, or from 2100 on).
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pt.is_temporal(column.type) and not pt.is_time(column.type):
        sieve.reject(_mask(column.is_null()), "missing_timestamp")
        seconds = _timestamp_seconds(column)
    elif time_format is None and (pt.is_integer(column.type) or pt.is_floating(column.type)):
        sieve.reject(_mask(pc.is_null(column, nan_is_null=True)), "missing_timestamp")
        seconds = _number_seconds(column, unit)
    else:
        text = parse_text(column, "timestamp", sieve)
        sieve.reject(_mask(pc.equal(text, "")), "missing_timestamp")
        seconds = _text_seconds(text, unit, time_format)
        sieve.reject(seconds == _NOT_A_TIME, "unparsable_timestamp")
    sieve.reject((seconds < 0) | (seconds >= TIME_END), "timestamp_out_of_range")
    return pa.array(np.where(sieve.good, seconds, 0).astype(np.int64))


def _timestamp_seconds(column: pa.Array) -> np.ndarray:
    """date, timestamp [n] -> int64 [n]; 0 where null."""
    moments = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False)
    return np.floor_divide(np.asarray(pc.fill_null(moments.cast(pa.int64()), 0)), 1_000_000)


def _number_seconds(column: pa.Array, unit: str) -> np.ndarray:
    """int or float [n] in `unit`s -> int64 [n]; 0 where null. Too large for int64 becomes its largest value."""
    filled = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    if filled.dtype.kind == "f":
        filled = np.nan_to_num(np.floor(filled.astype(np.float64) / _PER_SECOND[unit]), nan=0.0)
        return np.clip(filled, -(2.0**62), 2.0**62).astype(np.int64)
    if filled.dtype == np.uint64:
        filled = np.minimum(filled, np.uint64(np.iinfo(np.int64).max))
    return np.floor_divide(filled.astype(np.int64), _PER_SECOND[unit])


def _text_seconds(text: pa.Array, unit: str, time_format: str | None) -> np.ndarray:
    """string [n] -> int64 [n], _NOT_A_TIME where it is none."""
    if time_format is not None:
        return _moment_seconds(text, time_format)
    integer, number = (_mask(pc.match_substring_regex(text, pattern)) for pattern in (_INTEGER, _NUMBER))
    if integer.all():
        return _number_seconds(text.cast(pa.int64()), unit)
    seconds = np.full(len(text), _NOT_A_TIME)
    for rows, kind in ((integer, pa.int64()), (number & ~integer, pa.float64())):
        seconds[rows] = _number_seconds(text.filter(pa.array(rows)).cast(kind), unit)
    seconds[~number] = _moment_seconds(text.filter(pa.array(~number)), "ISO8601")
    return seconds


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
