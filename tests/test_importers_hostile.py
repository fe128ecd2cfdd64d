"""What happens to bad input (docs/data.md): each situation has a stated behaviour and a counter."""

import gzip
import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importer_fixtures import assert_nothing_lost, events_of, import_files, reasons_of, rejects_of

from pipeline import import_table
from pipeline.columns import MAX_ID_BYTES
from pipeline.errors import ConfigError, InputError
from pipeline.tables import Tables

HEADER = "user_id,item_id,timestamp\n"
GOOD = f"{HEADER}u,a,5\nv,b,6\n"
NOON = 1_700_049_600
"""2023-11-15T12:00:00Z"""


def import_log(folder: Path, files: dict[str, str | bytes], **source: Any) -> Tables:
    """Import events from `day-*` files, unless `table` says otherwise."""
    table = {"events": "day-*"} | source.pop("table", {})
    tables = import_files(folder, files, format="table", table=table, **source)
    assert_nothing_lost(tables)
    return tables


def import_items(folder: Path, items: list[dict[str, Any]]) -> Tables:
    lines = "".join(json.dumps(item) + "\n" for item in items)
    fields = [{"name": "title", "kind": "title"}, {"name": "tags", "kind": "multi"}]
    table = {"items": "items.jsonl", "item_fields": fields}
    return import_log(folder, {"day-1.csv": GOOD, "items.jsonl": lines}, table=table)


def parquet(rows: int) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["u"] * rows, "item_id": ["i"] * rows, "timestamp": [1] * rows}), stream)
    return stream.getvalue()


def test_too_large_a_share_of_bad_rows_is_refused_and_the_last_good_tables_stay(tmp_path: Path) -> None:
    before = import_log(tmp_path, {"day-1.csv": GOOD})
    bad = HEADER + "u,a,soon\n" + "u,a,5\n" * 7 + ",a,5\n" + "u,a,later\n"
    message = (
        r"day-2\.csv:2: 3 of its 10 records are bad \(30\.0%, more than the 29\.0% of `source\.max_rejected_share`\): "
        r"unparsable_timestamp 2, missing_user_id 1\. The first: line 2 unparsable_timestamp: 'u,a,soon'; "
        r"line 10 missing_user_id: ',a,5'; line 11 .*All of them: .*rejects\.csv\. Cure: .*time_format"
    )
    with pytest.raises(InputError, match=message):
        import_log(tmp_path, {"day-2.csv": bad}, max_rejected_share=0.29)
    assert Tables.read(before.artifact.path).artifact.manifest == before.artifact.manifest
    assert import_log(tmp_path, {}, max_rejected_share=0.3).artifact.counts["events"] == 9
    with pytest.raises(InputError, match=r"day-2\.csv"):
        import_log(tmp_path, {}, max_rejected_share=0.2)


def test_a_tenth_of_bad_rows_is_taken_unless_said_otherwise(tmp_path: Path) -> None:
    raw = {"day-1.csv": HEADER + "u,a,5\n" * 18 + ",a,5\n" * 2}
    assert import_log(tmp_path, raw, max_rejected_share=0.1).artifact.counts["events"] == 18
    with pytest.raises(InputError, match=r"3 of its 21 records are bad"):
        import_log(tmp_path, {"day-1.csv": raw["day-1.csv"] + ",a,5\n"}, max_rejected_share=0.1)


def test_bad_rows_of_the_catalogue_are_refused_alike(tmp_path: Path) -> None:
    files = {"day-1.csv": GOOD, "items.csv": "item_id\na\na\n"}
    with pytest.raises(InputError, match=r"items\.csv:3: 1 of its 2 records are bad .*duplicate_item_id 1"):
        import_log(tmp_path, files, table={"items": "items.csv"}, max_rejected_share=0.1)


def test_a_day_that_is_all_bad_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    files = {"day-1.csv": GOOD, "day-2.csv": f"{HEADER},a,5\nu,a,soon\n"}
    with pytest.raises(InputError, match=r"day-2\.csv:2: none of its 2 records is usable"):
        import_log(tmp_path, files)
    tables = import_log(tmp_path, {}, max_rejected_share=1)
    assert (tables.artifact.counts["events"], tables.artifact.counts["empty_files"]) == (2, 1)
    assert reasons_of(tables) == [(2, "missing_user_id"), (3, "unparsable_timestamp")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("day-2.csv", b""),
        ("day-2.csv", HEADER.encode()),
        ("day-2.csv", HEADER.encode() + b"\n  \n"),
        ("day-2.csv", b"\xef\xbb\xbf"),
        ("day-2.csv.gz", gzip.compress(b"")),
        ("day-2.jsonl", b""),
        ("day-2.parquet", b""),
        ("day-2.parquet", parquet(0)),
    ],
)
def test_an_empty_day_is_a_day_without_events(tmp_path: Path, name: str, content: bytes) -> None:
    tables = import_log(tmp_path, {"day-1.csv": GOOD, name: content}, max_rejected_share=0)
    assert (tables.artifact.counts["events"], tables.artifact.counts["empty_files"]) == (2, 1)


def test_no_event_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"day-1\.csv holds no records"):
        import_log(tmp_path, {"day-1.csv": "", "day-2.csv": HEADER})


def test_events_in_the_future_are_rejected(tmp_path: Path) -> None:
    times = [NOON, NOON + 7200, NOON + 7201]
    raw = {"day-1.csv": HEADER + "".join(f"u,a,{second}\n" for second in times)}
    source: dict[str, Any] = {"now": "2023-11-15T13:00:00+01:00", "max_future_days": 1 / 12}
    tables = import_log(tmp_path, raw, **source)
    assert [event[2] for event in events_of(tables)] == times[:2]
    assert tables.artifact.counts["rejected"] == {"timestamp_in_the_future": 1}
    later = import_log(tmp_path, {}, **source | {"now": "2023-11-15T12:00:01"})
    assert [event[2] for event in events_of(later)] == times


def test_with_a_given_moment_files_are_read_again_only_where_it_matters(tmp_path: Path) -> None:
    def runs(moment: str) -> dict[str, str]:
        tables = import_log(tmp_path, {}, now=moment, max_future_days=0)
        return {file.file: tables.open_events(file).dir.name for file in tables.event_files}

    import_log(
        tmp_path,
        {
            "day-1.csv": f"{HEADER}u,a,{NOON - 3}\nu,b,{NOON - 2}\n",
            "day-2.csv": f"{HEADER}u,a,{NOON - 1}\nu,b,{NOON + 9}\n",
        },
        now="2023-11-15T12:00:00",
        max_future_days=0,
    )
    first = runs("2023-11-15T12:00:00")
    assert runs("2023-11-15T12:00:08") == first
    second = runs("2023-11-15T12:00:09")
    assert [name for name in first if first[name] != second[name]] == ["day-2.csv"]
    assert runs("2023-11-16T12:00:00") == second


def test_by_the_clock_of_the_machine_a_file_keeps_the_verdict_of_the_day_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"day-1.csv": f"{HEADER}u,a,{NOON}\nu,b,{NOON + 86_401}\n"}
    monkeypatch.setattr(time, "time", lambda: NOON)
    before = import_log(tmp_path, raw)
    assert reasons_of(before) == [(3, "timestamp_in_the_future")]
    monkeypatch.setattr(time, "time", lambda: NOON + 10)
    after = import_log(tmp_path, {"day-2.csv": f"{HEADER}u,c,{NOON + 86_401}\n"})
    assert reasons_of(after) == [(3, "timestamp_in_the_future")]
    assert [event[1] for event in events_of(after)] == ["a", "c"]


def test_a_moment_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`source\.now` must be ISO 8601"):
        import_log(tmp_path, {"day-1.csv": GOOD}, now="yesterday")


def test_mixed_time_units_are_counted(tmp_path: Path) -> None:
    raw = {"day-1.csv": f"{HEADER}u,a,{NOON}\nu,a,{NOON}000\nu,a,{NOON}000000\nu,a,{NOON}000000000\nu,a,2023-11-15\n"}
    tables = import_log(tmp_path, raw, table={"time_unit": "auto"})
    assert [event[2] for event in events_of(tables)] == [NOON] * 4 + [NOON - 43_200]
    units = {f"time_in_{unit}": 1 for unit in ("s", "ms", "us", "ns")}
    assert tables.artifact.counts["noted"] == units | {"out_of_order": 1}
    assert reasons_of(import_log(tmp_path, {})) == [(n, "timestamp_out_of_range") for n in (3, 4, 5)]


def test_events_out_of_order_are_counted_and_kept(tmp_path: Path) -> None:
    tables = import_log(tmp_path, {"day-1.csv": f"{HEADER}u,a,9\nu,a,7\nu,a,7\nu,a,8\n"})
    assert [event[2] for event in events_of(tables)] == [9, 7, 7, 8]
    assert tables.artifact.counts["noted"] == {"out_of_order": 1}


STRANGE = [
    "👩\u200d👩\u200d👧 🎬",
    "千と千尋の神隠し",
    "\u200f\u05e9\u05dc\u05d5\u05dd\u200f",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "e\u0301",
    "\u00e9",
    "Ⅷ",
    "a\u200bb",
]
"""Joined emoji, CJK, right to left with its marks, joiners, composed and decomposed, a look-alike, a zero width."""


def test_text_of_any_script_is_kept_as_it_is(tmp_path: Path) -> None:
    items = [{"item_id": text, "title": text, "tags": [text]} for text in STRANGE]
    tables = import_items(tmp_path, items)
    assert tables.items().to_pylist() == items
    events = "".join(f"{text},{text},5\n" for text in STRANGE)
    assert [event[0] for event in events_of(import_log(tmp_path, {"day-1.csv": HEADER + events}))] == STRANGE
    assert tables.artifact.counts["noted"] == {}


def test_items_without_a_title_are_kept_and_counted(tmp_path: Path) -> None:
    titles = {"a": "A", "b": " ", "c": None}
    tables = import_items(tmp_path, [{"item_id": item, "title": title, "tags": []} for item, title in titles.items()])
    assert tables.items()["title"].to_pylist() == ["A", "", ""]
    assert tables.artifact.counts["noted"] == {"missing_title": 2}


def test_control_characters_are_taken_out_of_values(tmp_path: Path) -> None:
    items = [
        {"item_id": "a", "title": "\ufeffA\x00 b\x1b[0m\x85", "tags": ["x\x7f", "y"]},
        {"item_id": "b", "title": "tab\tand\nline", "tags": ["\x00"]},
        {"item_id": "c", "title": "plain", "tags": []},
    ]
    tables = import_items(tmp_path, items)
    assert tables.items()["title"].to_pylist() == ["A b[0m", "tab and line", "plain"]
    assert tables.items()["tags"].to_pylist() == [["x", "y"], [], []]
    assert tables.artifact.counts["noted"] == {"control_characters_removed": 2}


def test_ids_with_control_characters_and_overlong_ids_are_rejected(tmp_path: Path) -> None:
    longest = "é" * (MAX_ID_BYTES // 2)
    lines = ["u\0,a,5", "u,\ufeffa,5", f"{longest},a,5", f"u,{longest}x,5", "\0\0\0\0", "u\vv,a,5"]
    tables = import_log(tmp_path, {"day-1.csv": HEADER + "\n".join(lines)})
    assert events_of(tables) == [(longest, "a", 5)]
    assert sorted(reasons_of(tables)) == [
        (2, "user_id_control_character"),
        (3, "item_id_control_character"),
        (5, "item_id_too_long"),
        (6, "wrong_number_of_columns"),
        (7, "user_id_control_character"),
    ]


def test_line_ends_may_be_mixed(tmp_path: Path) -> None:
    raw = {"day-1.csv": b'\xef\xbb\xbfuser_id,item_id,timestamp\r\nu,a,1\nu,b,2\r\n"u",c,3\r\nu,d,4\r\n\r\n'}
    tables = import_log(tmp_path, raw)
    assert events_of(tables) == [("u", item, n + 1) for n, item in enumerate("abcd")]
    assert tables.artifact.counts["blank_lines"] == 1


def test_new_columns_are_ignored_and_named(tmp_path: Path) -> None:
    drifted = "colour,item_id,user_id,timestamp,device\nred,c,w,7,phone\n"
    files = {"day-1.csv": GOOD, "day-2.csv": drifted, "day-3.csv": drifted.replace("colour", "shade")}
    tables = import_log(tmp_path, files | {"items.csv": "item_id,price\na,1\n"}, table={"items": "items.csv"})
    assert tables.artifact.counts["ignored_columns"] == [
        "items.csv:price",
        "day-2.csv:colour",
        "day-2.csv:device (and 1 more)",
        "day-3.csv:shade",
    ]
    assert events_of(tables)[2] == ("w", "c", 7)


def test_a_column_that_is_gone_is_refused(tmp_path: Path) -> None:
    files = {"day-1.csv": GOOD, "day-2.csv": "user_id,item,timestamp\nu,a,5\n"}
    with pytest.raises(InputError, match=r"day-2\.csv:1: no column `item_id` .*Did you mean `item`"):
        import_log(tmp_path, files)


def test_a_file_that_is_still_being_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = import_table.ingest_events

    def append_meanwhile(*arguments: Any) -> None:
        read(*arguments)
        with (tmp_path / "raw" / "day-1.csv").open("a") as stream:
            stream.write("late,a,6\n")

    with monkeypatch.context() as context:
        context.setattr(import_table, "ingest_events", append_meanwhile)
        with pytest.raises(InputError, match=r"day-1\.csv changed while it was read"):
            import_log(tmp_path, {"day-1.csv": GOOD})
    assert events_of(import_log(tmp_path, {}))[-1] == ("late", "a", 6)


def test_the_rejected_rows_of_all_files_are_in_one_place(tmp_path: Path) -> None:
    files = {
        "items.csv": "item_id\na\n\na\n",
        "day-1.csv": f"{GOOD},a,5\n",
        "day-2.csv": f'{GOOD}u,"two\nlines\rmore",soon\n',
    }
    tables = import_log(tmp_path, files, table={"items": "items.csv"})
    assert rejects_of(tables) == [
        ("items.csv", 4, "duplicate_item_id", "a"),
        ("day-1.csv", 4, "missing_user_id", ",a,5"),
        ("day-2.csv", 4, "unparsable_timestamp", 'u,"two\nlines\rmore",soon'),
    ]
