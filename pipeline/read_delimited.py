"""Delimited text as blocks of columns: CSV with its quotes, tab-separated and `::`-separated files.

Lines are split by Arrow, a block at a time; only records with a quote in them go through Python's csv module.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.rejects import Account, Block
from pipeline.source_files import line_blocks

MAX_RECORD_LINES = 1000
"""A quoted value over more lines than this is taken for a quote that never closes."""


@dataclass(frozen=True)
class Dialect:
    """How a file is cut. `latin1`: lines that are not UTF-8 are Latin-1, instead of rejected."""

    delimiter: str
    quotes: bool = False
    latin1: bool = False


def read_header(path: Path, name: str, dialect: Dialect) -> list[str]:
    """The column names on the first line. Raises InputError when there is none, or it is not UTF-8."""
    _, lines = next(line_blocks(path, name), (1, pa.array([b""])))
    try:
        text = lines[0].as_py().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{name}:1: the header is not UTF-8. Cure: convert the file, or name a text file") from None
    if not text.strip():
        raise InputError(f"{name}:1: no header. Cure: the first line must name the columns")
    cells = next(csv.reader([text], delimiter=dialect.delimiter)) if dialect.quotes else text.split(dialect.delimiter)
    return [cell.strip() for cell in cells]


def read_delimited(
    path: Path, account: Account, dialect: Dialect, names: list[str], wanted: Iterable[str], header: bool
) -> Iterator[Block]:
    """Read the columns `wanted` of a file whose columns are `names`.

    Rejects `undecodable_bytes`, `wrong_number_of_columns` and `malformed_quotes` (not closed, not doubled inside a
    quoted value, or around more than csv.field_size_limit() characters); blank lines are filtered.
    """
    wanted = list(wanted)
    places = [names.index(name) for name in wanted]
    blocks = line_blocks(path, account.file)
    if header:
        blocks = _after_first_line(blocks)
    records = _records(blocks, dialect, len(names), account) if dialect.quotes else _numbered(blocks)
    for numbers, raw in records:
        numbers, texts = decode_lines(numbers, raw, account, dialect.latin1)
        numbers, texts, cells = _split(numbers, texts, dialect, len(names), places, account)
        yield Block(numbers, dict(zip(wanted, cells, strict=True)), content_of(texts))


def decode_lines(numbers: np.ndarray, raw: pa.Array, account: Account, latin1: bool) -> tuple[np.ndarray, pa.Array]:
    """large_binary [n] -> large_string [m] without blank lines (filtered) and undecodable ones (rejected)."""
    try:
        texts = raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = pa.array([_decode(line, latin1) for line in raw.to_pylist()], pa.large_string())
        bad = texts.is_null().to_numpy(zero_copy_only=False)
        shown = [line.decode("utf-8", "backslashreplace") for line in raw.filter(pa.array(bad)).to_pylist()]
        account.reject([(n, "undecodable_bytes", s) for n, s in zip(numbers[bad].tolist(), shown, strict=True)])
        numbers, texts = numbers[~bad], texts.drop_null()
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False)
    if blank.any():
        account.skip_blank_lines(int(blank.sum()))
        numbers, texts = numbers[~blank], texts.filter(pa.array(~blank))
    return numbers, texts


def _decode(line: bytes, latin1: bool) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1") if latin1 else None


def _after_first_line(blocks: Iterator[tuple[int, pa.Array]]) -> Iterator[tuple[int, pa.Array]]:
    for number, lines in blocks:
        yield (2, lines.slice(1)) if number == 1 else (number, lines)


def _numbered(blocks: Iterator[tuple[int, pa.Array]]) -> Iterator[tuple[np.ndarray, pa.Array]]:
    for first, lines in blocks:
        yield np.arange(first, first + len(lines)), lines


def _split(
    numbers: np.ndarray, texts: pa.Array, dialect: Dialect, width: int, places: list[int], account: Account
) -> tuple[np.ndarray, pa.Array, list[pa.Array]]:
    """Records [n] -> (numbers [m], records [m], the cells [m] at each of `places`); the others are rejected."""
    quoted = np.zeros(len(texts), dtype=bool)
    if dialect.quotes:
        quoted = pc.match_substring(texts, '"').to_numpy(zero_copy_only=False)
    rows, cells = _split_plain(texts, np.flatnonzero(~quoted), dialect.delimiter, width, places)
    malformed = np.empty(0, dtype=np.int64)
    if quoted.any():
        more, more_cells, malformed = _split_quoted(texts, np.flatnonzero(quoted), dialect.delimiter, width, places)
        rows = np.concatenate((rows, more))
        order = np.argsort(rows)
        rows = rows[order]
        cells = [pa.concat_arrays(both).take(pa.array(order)) for both in zip(cells, more_cells, strict=True)]
    if len(rows) < len(texts):
        bad = np.setdiff1d(np.arange(len(texts)), rows, assume_unique=True)
        reasons = np.where(np.isin(bad, malformed), "malformed_quotes", "wrong_number_of_columns")
        content = texts.take(pa.array(bad)).to_pylist()
        account.reject(list(zip(numbers[bad].tolist(), reasons.tolist(), content, strict=True)))
        numbers, texts = numbers[rows], texts.take(pa.array(rows))
    return numbers, texts, cells


def _split_plain(
    texts: pa.Array, rows: np.ndarray, delimiter: str, width: int, places: list[int]
) -> tuple[np.ndarray, list[pa.Array]]:
    """The records at `rows`, free of quotes -> (those with `width` cells, their cells at `places`)."""
    lists = pc.split_pattern(texts if len(rows) == len(texts) else texts.take(pa.array(rows)), delimiter)
    fits = pc.equal(pc.list_value_length(lists), width)
    lists, rows = lists.filter(fits), rows[fits.to_numpy(zero_copy_only=False)]
    return rows, [pc.list_element(lists, place) for place in places]


def _split_quoted(
    texts: pa.Array, rows: np.ndarray, delimiter: str, width: int, places: list[int]
) -> tuple[np.ndarray, list[pa.Array], np.ndarray]:
    """As _split_plain for records with quotes; and third, those whose quotes are malformed."""
    parsed = _parse_quoted(texts.take(pa.array(rows)).to_pylist(), delimiter)
    malformed = rows[[cells is None for cells in parsed]]
    fits = [cells is not None and len(cells) == width for cells in parsed]
    good = [cells for cells in parsed if cells is not None and len(cells) == width]
    return rows[fits], [pa.array([cells[place] for cells in good], texts.type) for place in places], malformed


def _parse_quoted(records: list[str], delimiter: str) -> list[list[str] | None]:
    """CSV records -> their cells; None where the quotes are malformed."""
    # An open quote swallows what follows, so that fewer rows come back; the last record has something to swallow too.
    try:
        rows = list(csv.reader(chain(records, ["end"]), delimiter=delimiter, strict=True))
    except csv.Error:
        rows = []
    if len(rows) == len(records) + 1:
        return [*rows[:-1]]
    return [_parse_alone(record, delimiter) for record in records]


def _parse_alone(record: str, delimiter: str) -> list[str] | None:
    try:
        rows = list(csv.reader([record, "end"], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 2 else None


def _records(
    blocks: Iterator[tuple[int, pa.Array]], dialect: Dialect, width: int, account: Account
) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Lines -> records: the lines of a quoted value with line ends in it are joined.

    Yields: (line on which each record starts, int64 [n]; records, large_binary [n]).
    """
    first, pending = 1, pa.array([], pa.large_binary())
    for start, lines in blocks:
        first, lines = start - len(pending), pa.concat_arrays([pending, lines])
        numbers, records, rest = _join(lines, first, dialect, width, account, final=False)
        yield numbers, records
        first, pending = first + rest, lines.slice(rest)
    if len(pending):
        numbers, records, _ = _join(pending, first, dialect, width, account, final=True)
        yield numbers, records


def _join(
    lines: pa.Array, first: int, dialect: Dialect, width: int, account: Account, final: bool
) -> tuple[np.ndarray, pa.Array, int]:
    """Lines [n] -> (numbers [m], records [m], how many lines were used); the rest waits for the next block.

    A record spans lines only when the first has an odd number of quotes and the joined one has `width` cells:
    a stray quote then costs its own line (`malformed_quotes`), not the rest of the file.
    """
    odd = np.flatnonzero(pc.count_substring(lines, '"').to_numpy(zero_copy_only=False) % 2)
    pieces: list[pa.Array] = []
    numbers: list[np.ndarray] = []
    done = 0

    def keep_single_lines(stop: int) -> None:
        pieces.append(lines.slice(done, stop - done))
        numbers.append(np.arange(first + done, first + stop))

    for start in odd.tolist():
        if start < done:
            continue
        end = _record_end(lines, start, dialect.delimiter, width)
        if end == start + 1:
            continue  # quotes in an unquoted value are ordinary characters
        keep_single_lines(start)
        if end is not None:
            pieces.append(pa.array([b"\n".join(lines.slice(start, end - start).to_pylist())], lines.type))
            numbers.append(np.array([first + start]))
            done = end
        elif not final and len(lines) - start < MAX_RECORD_LINES:
            return np.concatenate(numbers), pa.concat_arrays(pieces), start
        else:
            content = lines[start].as_py().decode("utf-8", "backslashreplace")
            account.reject([(first + start, "malformed_quotes", content)])
            done = start + 1
    keep_single_lines(len(lines))
    return np.concatenate(numbers), pa.concat_arrays(pieces), len(lines)


def _record_end(lines: pa.Array, start: int, delimiter: str, width: int) -> int | None:
    """The line after the record that starts at `start`; None when it does not end, or not as a record should."""
    window = lines.slice(start, MAX_RECORD_LINES)
    exhausted = False

    def feed() -> Iterator[str]:
        nonlocal exhausted
        for line in window:
            yield line.as_py().decode("utf-8", "replace") + "\n"
        exhausted = True

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    try:
        cells = next(reader)
    except csv.Error:
        return None
    if exhausted or (reader.line_num > 1 and len(cells) != width):
        return None
    return start + reader.line_num


def content_of(texts: pa.Array) -> Callable[[np.ndarray], list[str]]:
    """The `content` of a block whose records are `texts`."""
    return lambda rows: texts.take(pa.array(rows)).to_pylist()
