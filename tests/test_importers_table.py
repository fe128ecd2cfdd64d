"""Mapped CSV, JSON Lines and Parquet tables: the same rows in each format give the same tables."""

import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from importer_fixtures import assert_nothing_lost, events_of, import_files, reasons_of, rejects_of

from pipeline.errors import ConfigError, InputError
from pipeline.tables import Tables

EVENTS = [
    {"uid": "u1", "gid": "g1", "at": "2007-12-25 18:26:58", "stars": 5},
    {"uid": "u1", "gid": "g2", "at": "2007-12-25T18:26:59Z", "stars": 2},
    {"uid": "u2", "gid": "g9", "at": "2008-01-01", "stars": 4},
]
ITEMS = [
    {"gid": "g1", "name": 'A "quoted", title', "tags": "x,y,x", "year": 2004.0, "maker": "Café"},
    {"gid": "g2", "name": "Zwölf\nZeilen", "tags": "", "year": None, "maker": None},
]
USERS = [{"id": 7, "age": 31}, {"id": 8, "age": None}]
TABLE: dict[str, Any] = {
    "user_id": "uid",
    "item_id": "gid",
    "timestamp": "at",
    "rating": "stars",
    "users_id": "id",
    "item_fields": [
        {"name": "title", "kind": "title", "column": "name"},
        {"name": "tags", "kind": "multi", "separator": ","},
        {"name": "year", "kind": "numeric", "buckets": 4},
        {"name": "maker", "kind": "categorical"},
    ],
    "user_fields": [{"name": "age", "kind": "numeric"}],
}


def encode(rows: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix.endswith(".gz"):
        return gzip.compress(encode(rows, suffix.removesuffix(".gz")))
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    stream, table = io.BytesIO(), pa.Table.from_pylist(rows)
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, stream)
    else:
        pq.write_table(table, stream)
    return stream.getvalue()


def import_tables(folder: Path, suffix: str, files: dict[str, bytes] | None = None, **source: Any) -> Tables:
    names = {part: f"{part}{suffix}" for part in ("events", "items", "users")}
    raw = {f"{name}{suffix}": encode(rows, suffix) for name, rows in zip(names, (EVENTS, ITEMS, USERS), strict=True)}
    table = TABLE | names | source.pop("table", {})
    return import_files(folder, raw | (files or {}), format="table", table=table, **source)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_tables(tmp_path: Path, suffix: str) -> None:
    tables = import_tables(tmp_path, suffix)
    assert events_of(tables) == [("u1", "g1", 1198607218), ("u1", "g2", 1198607219), ("u2", "g9", 1199145600)]
    assert tables.items().to_pylist() == [
        {"item_id": "g1", "title": 'A "quoted", title', "tags": ["x", "y"], "year": 2004.0, "maker": "Café"},
        {"item_id": "g2", "title": "Zwölf Zeilen", "tags": [], "year": None, "maker": ""},
    ]
    assert tables.users().to_pylist() == [{"user_id": "7", "age": 31.0}, {"user_id": "8", "age": None}]
    assert [field.buckets for field in tables.schema.item_fields if field.kind == "numeric"] == [4]
    assert tables.artifact.counts["events_without_catalogue_item"] == 1
    assert_nothing_lost(tables)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_minimum_rating(tmp_path: Path, suffix: str) -> None:
    tables = import_tables(tmp_path, suffix, minimum_rating=4)
    assert [event[1] for event in events_of(tables)] == ["g1", "g9"]
    assert tables.artifact.counts["below_minimum_rating"] == 1


def test_bad_json_lines_are_set_aside_and_the_rest_is_kept(tmp_path: Path) -> None:
    lines = [
        b'{"uid": "u1", "gid": 3, "at": 5}',
        b"not json",
        b'["u1", "g1", 5]',
        b'{"uid": "u1", "gid": "g1"}',
        b'{"uid": null, "gid": "g1", "at": 5}',
        b"",
        b'{"uid": "u1", "gid": "\\ud800", "at": 5}',
        b'{"uid": "\xff", "gid": "g1", "at": 5}',
        b'{"uid": "u1", "gid": "g1", "at": "1970-01-01T00:00:06"}',
        b'{"uid": 12.0, "gid": true, "at": 7.9, "more": {"a": 1}}',
        b'{"uid": "u1"} {"uid": "u2"}',
    ]
    tables = import_tables(tmp_path, ".jsonl", {"events.jsonl": b"\n".join(lines)})
    assert events_of(tables) == [("u1", "3", 5), ("u1", "g1", 6), ("12", "true", 7)]
    assert sorted(reasons_of(tables)) == [
        (2, "not_a_json_object"),
        (3, "not_a_json_object"),
        (4, "missing_timestamp"),
        (5, "missing_user_id"),
        (7, "not_a_json_object"),
        (8, "undecodable_bytes"),
        (11, "not_a_json_object"),
    ]
    assert tables.artifact.counts["blank_lines"] == 1
    assert_nothing_lost(tables)


def test_bad_parquet_rows_are_set_aside_by_row_number(tmp_path: Path) -> None:
    rows = [
        {"uid": 1, "gid": "a", "at": datetime(2017, 1, 28)},
        {"uid": None, "gid": "a", "at": datetime(2017, 1, 28)},
        {"uid": 1, "gid": " ", "at": datetime(1917, 1, 28)},
        {"uid": 1, "gid": "a", "at": None},
        {"uid": 1, "gid": "a", "at": datetime(2117, 1, 28)},
    ]
    tables = import_tables(tmp_path, ".parquet", {"events.parquet": encode(rows, ".parquet")})
    assert events_of(tables) == [("1", "a", 1485561600)]
    assert rejects_of(tables) == [
        ("events.parquet", 2, "missing_user_id", '{"uid": null, "gid": "a", "at": "2017-01-28 00:00:00"}'),
        ("events.parquet", 3, "missing_item_id", '{"uid": 1, "gid": " ", "at": "1917-01-28 00:00:00"}'),
        ("events.parquet", 4, "missing_timestamp", '{"uid": 1, "gid": "a", "at": null}'),
        ("events.parquet", 5, "timestamp_out_of_range", '{"uid": 1, "gid": "a", "at": "2117-01-28 00:00:00"}'),
    ]


def test_list_columns_become_multi_fields(tmp_path: Path) -> None:
    items = [{"gid": "g1", "name": "n", "tags": ["b", "a", "b"], "year": 1, "maker": "m"}]
    for suffix in (".jsonl", ".parquet"):
        tables = import_tables(tmp_path / suffix, suffix, {f"items{suffix}": encode(items, suffix)})
        assert tables.items()["tags"].to_pylist() == [["b", "a"]]


def test_several_event_files_by_a_pattern_in_name_order(tmp_path: Path) -> None:
    files = {f"day-{n}.csv": f"uid,gid,at\nu,g{n},{n}\n".encode() for n in (2, 1)}
    tables = import_tables(tmp_path, ".csv", files, table={"events": "day-*.csv"})
    assert events_of(tables) == [("u", "g1", 1), ("u", "g2", 2)]
    assert tables.artifact.counts["records"]["day-2.csv"] == 1


def test_units_formats_and_delimiters_are_configurable(tmp_path: Path) -> None:
    files = {"events.csv": b"uid;gid;at\nu;g;1200000001500\n", "items.csv": b"gid;name;tags;year;maker\ng;n;a,b;1;m\n"}
    files["users.csv"] = b"id;age\nu;1\n"
    tables = import_tables(tmp_path, ".csv", files, table={"delimiter": ";", "time_unit": "ms"})
    assert events_of(tables) == [("u", "g", 1_200_000_001)]
    files["events.csv"] = b"uid;gid;at\nu;g;31.12.1999 23:59\n"
    tables = import_tables(tmp_path, ".csv", files, table={"delimiter": ";", "time_format": "%d.%m.%Y %H:%M"})
    assert events_of(tables) == [("u", "g", 946684740)]


def test_the_path_may_start_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(events_of(import_tables(tmp_path, ".csv", path="~/raw"))) == 3


def test_an_import_is_skipped_while_files_and_settings_are_the_same(tmp_path: Path) -> None:
    first = import_tables(tmp_path, ".csv").artifact
    assert import_tables(tmp_path, ".csv").artifact.manifest == first.manifest
    changed = import_tables(tmp_path, ".csv", {"events.csv": b"uid,gid,at,stars\nu,g,1,1\n"}).artifact
    assert changed.counts["events"] == 1
    assert import_tables(tmp_path, ".csv", minimum_rating=4).artifact.counts["events"] == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user_id": "user"}, r"events\.\w+:1: no column `user` .*user_id.*'uid'.*Cure"),
        ({"timestamp": "att"}, r"events\.\w+:1: no column `att` .*Did you mean `at`"),
        ({"items_id": "gidd"}, r"items\.\w+:1: no column `gidd` .*items_id.*Did you mean `gid`"),
        ({"item_fields": [{"name": "tagz", "kind": "multi"}]}, r"items\.\w+:1: no column `tagz`.*Did you mean `tags`"),
    ],
)
def test_missing_columns_are_named_with_the_nearest(
    tmp_path: Path, suffix: str, table: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_tables(tmp_path, suffix, table=table)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".parquet", b"uid,gid,at\nu,g,1\n", r"events\.parquet is not readable Parquet.*Cure"),
        (".parquet", encode(EVENTS, ".parquet")[:-20], r"events\.parquet is not readable Parquet"),
        (".jsonl", b"uid,gid,at\nu,g,1\n", r"events\.jsonl:1: no column `uid`"),
        (".jsonl", b"", r"events\.jsonl holds no records"),
        (".parquet", b"", r"events\.parquet holds no records"),
        (".csv", b"", r"events\.csv holds no records"),
        (".csv", encode(EVENTS, ".parquet"), r"events\.csv:1: "),
        (".csv", b"uid;gid;at;stars\nu;g;1;1\n", r"events\.csv:1: there is one column only.*delimiter.*';'"),
        (".csv", b"uid,gid,at,at\nu,g,1,1\n", r"events\.csv:1: the column `at` is there twice"),
        (".csv", b"uid,gid,at\n", r"events\.csv holds no records"),
        (".csv", b"uid,gid,at\nu,g\nu,g\n", r"events\.csv:2: none of its 2 records.*wrong_number_of_columns.*Cure"),
        (".csv", b"uid,gid,at\nu,g,1700000000000\n", r"events\.csv:2: .*out_of_range.*time_unit"),
        (".csv", b"uid,gid,at\nu,g,31.12.1999\n", r"events\.csv:2: .*unparsable_timestamp.*time_format"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    tmp_path: Path, suffix: str, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_tables(tmp_path, suffix, {f"events{suffix}": content})


def test_a_parquet_file_damaged_inside_is_refused(tmp_path: Path) -> None:
    content = bytearray(encode(EVENTS * 100, ".parquet"))
    content[4:60] = b"\xff" * 56
    with pytest.raises(InputError, match=r"events\.parquet is not readable Parquet"):
        import_tables(tmp_path, ".parquet", {"events.parquet": bytes(content)})


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ({"table": {"events": "event.csv"}}, InputError, r"no file .*event\.csv.*Did you mean `events\.csv`"),
        ({"table": {"events": "day-*.csv"}}, InputError, r"no file .*day-\*\.csv"),
        ({"table": {"items": "items.xlsx"}}, InputError, r"no file .*items\.xlsx.*Did you mean `items\.csv`"),
        ({"table": {"users": "events.csv"}}, ConfigError, r"events\.csv is named twice"),
        ({"table": {"items": None}}, ConfigError, r"item_fields.*needs `source\.table\.items`"),
        ({"table": {"rating": None}, "minimum_rating": 3}, ConfigError, r"needs `source\.table\.rating`"),
        ({"table": {"time_format": "%Q"}}, ConfigError, r"time_format.*%Q"),
        ({"path": "/nowhere/at/all"}, InputError, r"/nowhere/at/all does not exist"),
        ({"path": None}, ConfigError, r"`source\.path` is needed"),
        ({"table": {"item_fields": [{"name": "item_id", "kind": "title"}]}}, ConfigError, r"`item_id`.*reserved"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, source: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        import_tables(tmp_path, ".csv", **source)


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"events\.xlsx must end in one of .*\.csv"):
        import_tables(tmp_path, ".csv", {"events.xlsx": b"PK"}, table={"events": "events.xlsx"})


def test_a_list_column_is_no_title(tmp_path: Path) -> None:
    items = [{"gid": "g1", "name": ["n"], "tags": [], "year": 1, "maker": "m"}]
    with pytest.raises(InputError, match="kind: multi"):
        import_tables(tmp_path, ".parquet", {"items.parquet": encode(items, ".parquet")})
