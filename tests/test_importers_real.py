"""The importers on real data sets; skipped where the data is absent."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from importer_fixtures import assert_nothing_lost, events_of, import_config

from pipeline.config_file import load_config
from pipeline.tables import Tables

ROOT = Path(__file__).resolve().parent.parent


def imported(workdir: Path, **source: Any) -> Tables:
    tables = import_config({"workdir": str(workdir), "source": source})
    assert_nothing_lost(tables)
    assert tables.artifact.counts["rejected"] == {}
    return tables


def sizes(tables: Tables) -> tuple[int, int, int, int]:
    counts = tables.artifact.counts
    return counts["events"], counts["items"], counts["users"], counts["events_without_catalogue_item"]


def test_movielens_1m(shared_data: Path, tmp_path: Path) -> None:
    tables = imported(tmp_path, format="movielens", path=str(shared_data / "ml-1m"), minimum_rating=4)
    assert sizes(tables) == (575_281, 3883, 6040, 0)
    assert events_of(tables)[0] == ("1", "3186", 978300019)
    titles = tables.items()["title"].to_pylist()
    assert "City of Lost Children, The (1995)" in titles
    assert "Misérables, Les (1995)" in titles
    assert pc.all(pc.match_substring_regex(tables.items()["year"], r"^(19|20)\d\d$")).as_py()


def test_movielens_100k_as_recbole(shared_data: Path, tmp_path: Path) -> None:
    tables = imported(tmp_path, format="recbole", path=str(shared_data / "ml-100k"))
    assert sizes(tables) == (100_000, 1682, 943, 0)
    assert {field.name: field.kind for field in tables.schema.item_fields} == {
        "movie_title": "title",
        "release_year": "categorical",
        "class": "multi",
    }


def test_ifdb_with_the_config_of_the_repository(shared_data: Path, tmp_path: Path) -> None:
    source = load_config(ROOT / "configs" / "ifdb.yaml").source.model_dump()
    tables = imported(tmp_path, **source | {"path": str(shared_data / "ifdb")})
    assert sizes(tables) == (116_483, 9873, 0, 11_796)
    assert "Who Whacked Jimmy Piñata?" in tables.items()["title"].to_pylist()
    assert tables.artifact.counts["first_event"] == "2007-12-25T18:26:58Z"


def test_complete_journey(shared_data: Path, tmp_path: Path) -> None:
    table = {
        "events": "transactions.parquet",
        "items": "products.parquet",
        "users": "demographics.parquet",
        "user_id": "household_id",
        "item_id": "product_id",
        "timestamp": "transaction_timestamp",
        "item_fields": [
            {"name": "title", "kind": "title", "column": "product_type"},
            {"name": "category", "kind": "categorical", "column": "product_category"},
            {"name": "brand", "kind": "categorical"},
        ],
        "user_fields": [{"name": "income", "kind": "categorical"}],
    }
    tables = imported(tmp_path, format="table", path=str(shared_data / "complete-journey"), table=table)
    assert sizes(tables) == (100_000, 92_331, 801, 316)
    assert events_of(tables)[0] == ("2261", "940996", 1485630413)
