"""The canonical tables: layout, types, bounded parts, and what the schema refuses."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importer_fixtures import events_of
from table_fixtures import make_tables

from pipeline import event_parts
from pipeline.errors import ArtifactError, ConfigError, InputError
from pipeline.tables import EVENTS, OF_A_BATCH, FieldSchema, Schema, Tables

SCHEMA = Schema(
    (FieldSchema("title", "title"), FieldSchema("tags", "multi"), FieldSchema("price", "numeric", 5)),
    (FieldSchema("age", "categorical"),),
)
ITEMS = pa.table({"item_id": ["a", "b"], "title": ["A", ""], "tags": [["x"], []], "price": [1.5, None]})


def events(first: int, stop: int) -> pa.Table:
    rows = range(first, stop)
    return pa.table([["u"] * len(rows), ["a"] * len(rows), list(rows)], schema=EVENTS)


def written(path: Path, *pieces: pa.Table) -> Tables:
    return make_tables(path / "tables", {"log": pieces}, SCHEMA, ITEMS)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tables = written(tmp_path, events(5, 7), pa.table([["v"], ["z"], [3]], schema=EVENTS))
    assert tables.schema == SCHEMA
    assert tables.items().equals(ITEMS.cast(SCHEMA.items()))
    assert tables.users().schema.equals(SCHEMA.users())
    assert events_of(tables) == [("u", "a", 5), ("u", "a", 6), ("v", "z", 3)]
    assert pq.read_schema(tables.event_parts[0]).equals(EVENTS)
    assert tables.artifact.file("rejects.csv").read_text() == "file,line,reason,content\n"


def test_counts(tmp_path: Path) -> None:
    counts = written(tmp_path, events(0, 2), pa.table([["v"], ["z"], [86400]], schema=EVENTS)).artifact.counts
    assert (counts["events"], counts["items"], counts["users"]) == (3, 2, 0)
    assert counts["events_without_catalogue_item"] == 1
    assert (counts["first_event"], counts["last_event"]) == ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z")
    assert counts["rejected"] == {}


def test_parts_and_row_groups_are_bounded_however_the_events_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_parts, "ROW_GROUP", 10)
    monkeypatch.setattr(event_parts, "PART_ROWS", 30)
    at_once = written(tmp_path / "a", events(0, 75))
    piecewise = written(tmp_path / "b", events(0, 1), events(1, 28), events(28, 28), events(28, 75))
    for tables in (at_once, piecewise):
        assert [part.name for part in tables.event_parts] == [f"part-0000{n}.parquet" for n in range(3)]
        metadata = [pq.read_metadata(part) for part in tables.event_parts]
        sizes = [[m.row_group(g).num_rows for g in range(m.num_row_groups)] for m in metadata]
        assert sizes == [[10, 10, 10], [10, 10, 10], [10, 5]]
        assert [event[2] for event in events_of(tables)] == list(range(75))
    assert at_once.artifact.fingerprint == piecewise.artifact.fingerprint


def test_no_events_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no records"):
        written(tmp_path, events(0, 0))
    with pytest.raises(ArtifactError):
        Tables.read(tmp_path / "tables")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["item_id"], "`item_id`: this name is reserved"),
        (["user_id"], "`user_id`: this name is reserved"),
        (["history"], "`history`: this name is reserved"),
        (["a", "b", "a"], "`a` is there twice"),
        (["a/b"], "'a/b'"),
        ([""], "''"),
        ([".hidden"], r"'\.hidden'"),
    ],
)
def test_field_names_that_cannot_be(names: list[str], message: str) -> None:
    fields = tuple(FieldSchema(name, "categorical") for name in names)
    with pytest.raises(ConfigError, match=f"item field {message}"):
        Schema(fields, ())
    with pytest.raises(ConfigError, match=f"user field {message}"):
        Schema((), fields)


@pytest.mark.parametrize("name", sorted(OF_A_BATCH))
def test_a_user_field_cannot_be_called_as_something_else_in_a_batch(name: str) -> None:
    field = FieldSchema(name, "numeric")
    with pytest.raises(ConfigError, match=f"user field `{name}`: this name is reserved"):
        Schema((), (field,))
    assert Schema((field,), ()).item_fields == (field,)


def test_the_schema_survives_json() -> None:
    assert Schema.from_json(SCHEMA.as_json()) == SCHEMA
    assert SCHEMA.as_json()["item_fields"][2] == {"name": "price", "kind": "numeric", "buckets": 5}
