"""RecBole atomic files."""

from pathlib import Path

import pytest
from importer_fixtures import assert_nothing_lost, events_of, import_files, reasons_of

from pipeline.errors import ConfigError, InputError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t3\t881250949\nu\tj\t5.0\t881250949.5\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\tyear:token\tclass:token_seq\tprice:float\tvector:float_seq\n"
    "i\tToy Story\t1995\tAnimation Comedy\t1.5\t0.1 0.2\nj\tCafé 'Q\"\t\t\t\t\n"
)
USER = "user_id:token\tage:float\tname:token\nu\t24\tAnn Lee\n"
FILES = {"ml.inter": INTER, "ml.item": ITEM, "ml.user": USER}


def test_a_folder_becomes_tables(tmp_path: Path) -> None:
    tables = import_files(tmp_path, FILES, format="recbole")
    assert events_of(tables) == [("u", "i", 881250949), ("u", "j", 881250949)]
    assert tables.items().to_pylist() == [
        {"item_id": "i", "movie_title": "Toy Story", "year": "1995", "class": ["Animation", "Comedy"], "price": 1.5},
        {"item_id": "j", "movie_title": "Café 'Q\"", "year": "", "class": [], "price": None},
    ]
    assert tables.users().to_pylist() == [{"user_id": "u", "age": 24.0, "name": "Ann Lee"}]
    kinds = {field.name: field.kind for field in tables.schema.item_fields + tables.schema.user_fields}
    assert kinds == {
        "movie_title": "title",
        "year": "categorical",
        "class": "multi",
        "price": "numeric",
        "age": "numeric",
        "name": "categorical",
    }
    assert tables.artifact.counts["ignored_columns"] == ["ml.item:vector"]
    assert_nothing_lost(tables)


def test_interactions_alone_suffice(tmp_path: Path) -> None:
    tables = import_files(tmp_path, {"ml.inter": INTER}, format="recbole", minimum_rating=4)
    assert events_of(tables) == [("u", "j", 881250949)]
    assert (tables.items().num_rows, tables.users().num_rows) == (0, 0)
    assert tables.artifact.counts["events_without_catalogue_item"] == 1


def test_bad_rows_are_set_aside(tmp_path: Path) -> None:
    item = ITEM + "i\tAgain\t1999\t\t\t\nk\tK\t1999\t\tcheap\t\n"
    inter = INTER.encode() + b"u\t\t1\t881250949\nu\ti\t1\nu\t\xff\t1\t881250949\n"
    tables = import_files(tmp_path, {"ml.inter": inter, "ml.item": item}, format="recbole")
    assert sorted(reasons_of(tables)) == [
        (4, "duplicate_item_id"),
        (4, "missing_item_id"),
        (5, "price_not_a_number"),
        (5, "wrong_number_of_columns"),
        (6, "undecodable_bytes"),
    ]
    assert_nothing_lost(tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ml.inter": None}, r"no \.inter file.*ml\.item.*Cure"),
        ({"other.inter": INTER}, r"holds 2 \.inter files.*ml\.inter.*Cure"),
        ({"ml.inter": INTER.replace(":token", "")}, r"ml\.inter:1: the header must hold tab-separated `name:type`"),
        ({"ml.inter": INTER.replace(":float", ":flaot")}, r"ml\.inter:1: .*Did you mean `float`"),
        ({"ml.inter": INTER.replace("item_id", "itemid")}, r"ml\.inter:1: no column `item_id`.*Did you mean `itemid`"),
        ({"ml.inter": INTER.replace("\t", ",")}, r"ml\.inter:1: .*tab-separated"),
        ({"ml.inter": INTER.partition("\n")[0] + "\n"}, r"ml\.inter holds no records"),
        ({"ml.item": ITEM.replace("item_id", "id", 1)}, r"ml\.item:1: no column `item_id`"),
        ({"ml.user": USER.replace("name", "age", 1)}, r"ml\.user:1: the column `age` is there twice"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    files = {name: content for name, content in (FILES | change).items() if content is not None}
    with pytest.raises(InputError, match=message):
        import_files(tmp_path, files, format="recbole")


def test_a_minimum_rating_needs_a_rating_column(tmp_path: Path) -> None:
    inter = INTER.replace("rating:float", "score:float")
    with pytest.raises(InputError, match=r"ml\.inter:1: no column `rating`"):
        import_files(tmp_path, {"ml.inter": inter}, format="recbole", minimum_rating=4)


def test_a_reserved_field_name_is_refused(tmp_path: Path) -> None:
    user = USER.replace("name:token", "history:token")
    with pytest.raises(ConfigError, match=r"`history`.*reserved"):
        import_files(tmp_path, FILES | {"ml.user": user}, format="recbole")
