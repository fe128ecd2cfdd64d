"""Events by UTC date: complete, in their order, and the same bytes however they arrive."""

from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import event_parts
from pipeline.artifacts import file_digest
from pipeline.event_parts import DAY_SECONDS, Days
from pipeline.tables import EVENTS

TIMES = st.lists(st.integers(0, 4 * DAY_SECONDS - 1), max_size=40)


def events(times: list[int], first: int = 0) -> pa.Table:
    """Events of these times; the user tells where in the log each stood."""
    users = [f"u{first + number}" for number in range(len(times))]
    return pa.table([users, ["i"] * len(times), times], schema=EVENTS)


def write(folder: Path, pieces: list[pa.Table], held_bytes: int = 128 << 20) -> Path:
    folder.mkdir()
    with mock.patch.multiple(event_parts, HELD_BYTES=held_bytes, ROW_GROUP=3, PART_ROWS=6):
        days = Days(folder)
        for piece in pieces:
            days.add(piece)
        days.finish()
    return folder


def contents(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Day -> (user, time) of its events, in their order."""
    rows: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        day = rows.setdefault(path.parent.name, [])
        day += [(row["user_id"], row["timestamp"]) for row in pq.read_table(path, partitioning=None).to_pylist()]
    return rows


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in folder.rglob("*") if path.is_file()}


@given(TIMES)
def test_every_event_is_in_the_day_it_happened_in_order(
    tmp_path_factory: pytest.TempPathFactory, times: list[int]
) -> None:
    folder = write(tmp_path_factory.mktemp("days") / "log", [events(times)])
    expected: dict[str, list[tuple[str, int]]] = {}
    for number, time in enumerate(times):
        expected.setdefault(f"date=1970-01-0{1 + time // DAY_SECONDS}", []).append((f"u{number}", time))
    assert contents(folder) == expected


@given(TIMES, st.integers(0, 40), st.sampled_from([1, 200, 1000]))
def test_the_bytes_depend_neither_on_the_pieces_nor_on_what_was_put_aside(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], cut: int, held_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("days")
    at_once = write(folder / "a", [events(times)])
    pieces = [events(times[:cut]), events(times[cut:], first=len(times[:cut]))]
    assert digests(write(folder / "b", pieces, held_bytes)) == digests(at_once)


def test_an_event_more_on_one_day_leaves_the_bytes_of_the_others(tmp_path: Path) -> None:
    before = digests(write(tmp_path / "a", [events([5, DAY_SECONDS, 7, DAY_SECONDS + 1])]))
    after = digests(write(tmp_path / "b", [events([5, DAY_SECONDS, 7, DAY_SECONDS + 1, 9])]))
    assert [name for name in before if before[name] != after[name]] == ["date=1970-01-01/part-00000.parquet"]


def test_parts_of_a_day_are_bounded(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [events(list(range(14)))])
    assert [pq.read_metadata(path).num_rows for path in sorted(folder.rglob("*.parquet"))] == [6, 6, 2]


def test_nothing_is_left_aside_when_writing_stops(tmp_path: Path) -> None:
    days = Days(tmp_path)
    with mock.patch.object(event_parts, "HELD_BYTES", 1):
        days.add(events([1, DAY_SECONDS]))
    assert list(tmp_path.iterdir())
    days.close()
    assert not list(tmp_path.iterdir())
