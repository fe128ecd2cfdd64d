"""JSON Lines as blocks of columns.

A block whose values have one JSON type a column is parsed by Arrow; any other goes line by line through `json`,
which also tells which lines are no JSON objects. Both ways give the same columns.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from pipeline.read_delimited import content_of, decode_lines
from pipeline.rejects import Account, Block
from pipeline.source_files import line_blocks

SAMPLE = 1000
"""Lines of a block looked at to learn the types of its columns."""

_ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def read_keys(path: Path, name: str) -> list[str]:
    """The keys of the first SAMPLE records, in order of appearance. Lines that are no JSON objects give none."""
    _, lines = next(line_blocks(path, name), (1, pa.array([], pa.large_binary())))
    keys: dict[str, None] = {}
    for line in islice(lines, SAMPLE):
        keys |= dict.fromkeys(_parse(line.as_py().decode("utf-8", "replace")) or ())
    return list(keys)


def read_jsonl(path: Path, account: Account, wanted: Iterable[str]) -> Iterator[Block]:
    """Read the keys `wanted`; a key that a record lacks is null.

    Rejects `undecodable_bytes` and `not_a_json_object`; blank lines are filtered.
    """
    wanted = list(wanted)
    for first, raw in line_blocks(path, account.file):
        numbers, texts = decode_lines(np.arange(first, first + len(raw)), raw, account, latin1=False)
        columns = _by_arrow(texts, wanted) if len(texts) else dict.fromkeys(wanted, pa.nulls(0, pa.string()))
        if columns is None:
            rows = [_parse(line) for line in texts.to_pylist()]
            bad = np.array([row is None for row in rows])
            content = texts.filter(pa.array(bad)).to_pylist()
            account.reject([(n, "not_a_json_object", s) for n, s in zip(numbers[bad].tolist(), content, strict=True)])
            numbers, texts = numbers[~bad], texts.filter(pa.array(~bad))
            columns = {name: column([row.get(name) for row in rows if row is not None]) for name in wanted}
        yield Block(numbers, columns, content_of(texts))


def _by_arrow(texts: pa.Array, wanted: list[str]) -> dict[str, pa.Array] | None:
    """Lines [n] -> columns [n]; None when they need a closer look."""
    sample = [row for line in texts.slice(0, SAMPLE).to_pylist() if (row := _parse(line)) is not None]
    types = {name: _arrow_type([row.get(name) for row in sample]) for name in wanted}
    if None in types.values() or not sample:
        return None
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts.cast(pa.string())), "\n")[0].as_buffer()
    try:
        table = pj.read_json(
            pa.BufferReader(joined),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(joined) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    if len(table) != len(texts):  # two objects on one line, for instance
        return None
    return {name: table[name].combine_chunks() for name in wanted}


def _arrow_type(values: list[Any]) -> pa.DataType | None:
    """The type of a column by its sample: a scalar or a list of scalars of one type; None for anything else."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        inner = _arrow_type([value for values in values for value in values or ()])
        return inner and pa.list_(inner)
    if kinds == {int, float}:
        return pa.float64()
    return _ARROW_TYPES.get(kinds.pop()) if len(kinds) == 1 else (None if kinds else pa.string())


def column(values: list[Any]) -> pa.Array:
    """JSON values [n] -> a column: of their type when they have one in common, else of text or lists of text."""
    kind = _arrow_type(values)
    if kind is not None:
        try:
            return pa.array([v if v is None else float(v) for v in values] if kind == pa.float64() else values, kind)
        except (OverflowError, pa.ArrowInvalid):  # an integer over 64 bits: text keeps it exact
            pass
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) else [value] for value in values]
        return pa.array([[_text(v) for v in value] for value in lists], pa.list_(pa.string()))
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    """A JSON value as text, as pipeline/columns.py writes the numbers of Arrow columns."""
    if value is None or value != value or isinstance(value, str):  # NaN differs from itself
        return value if isinstance(value, str) else None
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        if "\\u" in line:  # an escaped lone surrogate is valid JSON, but no text
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
