"""Delimited text: pipeline/read_delimited.py against Python's csv module, and what broken files come to."""

import csv
import gzip
import io
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import read_delimited, source_files
from pipeline.errors import InputError
from pipeline.read_delimited import Dialect, read_header
from pipeline.rejects import Account, Rejects

CSV = Dialect(",", quotes=True)
NAMES = ["a", "b", "c"]
CELLS = st.text(st.sampled_from('xyé ,"\n1'), max_size=6)


def read(
    content: bytes, dialect: Dialect = CSV, block_bytes: int = 8 << 20, header: bool = False
) -> tuple[list, Account]:
    """((line, cells...) of each good record, the account) of a file with this content and columns NAMES."""
    with tempfile.TemporaryDirectory() as folder, Rejects(Path(folder, "rejects.csv")) as rejects:
        path = Path(folder, "file.csv")
        path.write_bytes(content)
        account = Account("file.csv", rejects)
        rows = []
        with mock.patch.object(source_files, "BLOCK_BYTES", block_bytes):
            for block in read_delimited.read_delimited(path, account, dialect, NAMES, NAMES, header):
                columns = (block.columns[name].to_pylist() for name in NAMES)
                rows += zip(block.lines.tolist(), *columns, strict=True)
    return rows, account


def verdicts(content: bytes, **options: int) -> tuple[list, int, dict[str, int]]:
    rows, account = read(content, **options)
    return rows, account.outcome.filtered["blank_lines"], dict(account.outcome.rejected)


@settings(max_examples=40)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_csv_as_the_csv_module_writes_it(rows: list[tuple[str, str, str]], quoting: int) -> None:
    rows = [row for row in rows if "".join(row).strip(" ")]  # a line of blanks would be a blank line
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode()
    expected, line = [], 1
    for row in rows:
        expected.append((line, *row))
        line += 1 + sum(cell.count("\n") for cell in row)
    for block_bytes in (8 << 20, 7):
        got, account = read(content, block_bytes=block_bytes)
        assert got == expected
        assert not account.outcome.rejected


@settings(max_examples=50)
@given(st.lists(st.text(st.sampled_from('a,"é '), max_size=9), max_size=12), st.sampled_from([1, 5, 16]))
def test_what_becomes_of_garbage_does_not_depend_on_the_block_size(lines: list[str], block_bytes: int) -> None:
    content = "\n".join(lines).encode()
    assert verdicts(content, block_bytes=block_bytes) == verdicts(content)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=12))
def test_every_line_without_quotes_is_accounted_for(lines: list[bytes]) -> None:
    lines = [line.replace(b'"', b"") for line in lines]
    content = b"".join(line + b"\n" for line in lines)
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return
    for dialect in (CSV, Dialect("::"), Dialect("::", latin1=True)):
        rows, account = read(content, dialect)
        assert account.outcome.records + len(rows) == len(lines)


def test_a_stray_quote_costs_its_own_line_only() -> None:
    content = b'1,"open,2\n' + b'3,"x",4\n' * 3 + b"5,y,6\n"
    rows, _, rejected = verdicts(content)
    assert [row[0] for row in rows] == [2, 3, 4, 5]
    assert rejected == {"malformed_quotes": 1}


def test_quotes_inside_an_unquoted_value_are_characters() -> None:
    assert verdicts(b'1,5" disk,2\n1,6" and 7",2\n') == ([(1, "1", '5" disk', "2"), (2, "1", '6" and 7"', "2")], 0, {})


def test_a_quote_that_opens_after_a_stray_one_does_not_swallow_the_next_record() -> None:
    assert verdicts(b'x"y,1,"z\n"a","b","c"\n') == ([(2, "a", "b", "c")], 0, {"malformed_quotes": 1})


def test_quotes_that_are_not_doubled_inside_a_quoted_value_are_rejected() -> None:
    content = b'1,"The "Best" Game",3\n1,"The ""Best"" Game",3\n'
    assert verdicts(content) == ([(2, "1", 'The "Best" Game', "3")], 0, {"malformed_quotes": 1})


def test_a_value_may_span_lines_and_records_keep_their_first_line() -> None:
    rows, _, rejected = verdicts(b'1,"two\nlines, and ""more""\n",3\n4,5,6\n', block_bytes=6)
    assert rows == [(1, "1", 'two\nlines, and "more"\n', "3"), (4, "4", "5", "6")]
    assert rejected == {}


def test_a_quote_that_never_closes_is_given_up_after_a_bounded_number_of_lines() -> None:
    content = b'"open\n' + b"1,2,3\n" * 50
    with mock.patch.object(read_delimited, "MAX_RECORD_LINES", 20):
        rows, _, rejected = verdicts(content)
    assert (len(rows), rejected) == (50, {"malformed_quotes": 1})


def test_a_huge_quoted_value_is_rejected_not_fatal() -> None:
    content = b'1,"' + b"x" * 200_000 + b'",3\n4,"5",6\n'
    assert verdicts(content) == ([(2, "4", "5", "6")], 0, {"malformed_quotes": 1})


def test_bad_lines_beside_good_ones() -> None:
    content = b"1,2,3\n\n  \r\n1,2\n1,2,3,4\n\xff,2,3\n7,8,9"
    rows, blank, rejected = verdicts(content)
    assert rows == [(1, "1", "2", "3"), (7, "7", "8", "9")]
    assert blank == 2
    assert rejected == {"wrong_number_of_columns": 2, "undecodable_bytes": 1}


def test_latin1_lines_where_they_are_expected() -> None:
    content = "1,Misérables,3\n".encode("latin-1") + "2,Café,3\n".encode()
    rows, _ = read(content, Dialect(",", latin1=True))
    assert [row[2] for row in rows] == ["Misérables", "Café"]


def test_line_ends_byte_order_mark_and_gzip(tmp_path: Path) -> None:
    content = "\ufeffa,b,c\r\n1,é,3\r\n".encode()
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(content))
    assert read_header(path, "file.csv.gz", CSV) == NAMES
    assert read(content, header=True)[0] == [(2, "1", "é", "3")]
    with Rejects(tmp_path / "rejects.csv") as rejects:
        blocks = read_delimited.read_delimited(path, Account("f", rejects), CSV, NAMES, ["b"], header=True)
        assert [block.columns["b"].to_pylist() for block in blocks] == [["é"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no header"),
        (b"\n1,2\n", "no header"),
        (b"\xff\xfea\x00,\x00", "UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "not UTF-8"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"file\.csv:1.*{message}"):
        read_header(path, "file.csv", CSV)


def test_truncated_and_false_gzip_are_refused(tmp_path: Path) -> None:
    for content in (gzip.compress(os.urandom(1000))[:-50], b"a,b,c\n"):
        path = tmp_path / "file.csv.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"file\.csv\.gz cannot be read"):
            list(source_files.line_blocks(path, "file.csv.gz"))


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "blob.csv"
    path.write_bytes(b"x" * 5000)
    limits = {"BLOCK_BYTES": 1000, "MAX_LINE_BYTES": 2500}
    with mock.patch.multiple(source_files, **limits), pytest.raises(InputError, match=r"blob\.csv:1: a line over"):
        list(source_files.line_blocks(path, "blob.csv"))
