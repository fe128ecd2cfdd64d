"""MovieLens folders."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importer_fixtures import assert_nothing_lost, events_of, import_files, reasons_of, rejects_of

from pipeline.errors import InputError

RATINGS = "1::10::5::978300019\n1::11::3::978300055\n2::10::4::978300060\n"
MOVIES = "10::Misérables, Les (1995)::Drama|Musical\n11::Untitled::\n".encode("latin-1")
USERS = "1::F::25::10::48067\n2::M::56::16::V8Z 1A1\n"
FILES = {"ratings.dat": RATINGS, "movies.dat": MOVIES, "users.dat": USERS}


def test_a_folder_becomes_tables(tmp_path: Path) -> None:
    tables = import_files(tmp_path, FILES, format="movielens")
    assert events_of(tables) == [("1", "10", 978300019), ("1", "11", 978300055), ("2", "10", 978300060)]
    assert tables.items().to_pylist() == [
        {"item_id": "10", "title": "Misérables, Les (1995)", "year": "1995", "genres": ["Drama", "Musical"]},
        {"item_id": "11", "title": "Untitled", "year": "", "genres": []},
    ]
    assert tables.users().to_pylist() == [
        {"user_id": "1", "gender": "F", "age": "25", "occupation": "10", "region": "4"},
        {"user_id": "2", "gender": "M", "age": "56", "occupation": "16", "region": "V"},
    ]
    assert [(f.name, f.kind) for f in tables.schema.item_fields] == [
        ("title", "title"),
        ("year", "categorical"),
        ("genres", "multi"),
    ]
    assert tables.artifact.counts["rejected"] == {}
    assert tables.artifact.counts["events_without_catalogue_item"] == 0


def test_ratings_below_the_minimum_are_filtered_not_rejected(tmp_path: Path) -> None:
    tables = import_files(tmp_path, FILES, format="movielens", minimum_rating=4)
    assert [event[1] for event in events_of(tables)] == ["10", "10"]
    assert tables.artifact.counts["below_minimum_rating"] == 1
    assert rejects_of(tables) == []
    assert_nothing_lost(tables)


def test_titles_in_utf8_are_read_as_such(tmp_path: Path) -> None:
    tables = import_files(tmp_path, FILES | {"movies.dat": MOVIES.decode("latin-1")}, format="movielens")
    assert tables.items()["title"][0].as_py() == "Misérables, Les (1995)"


def test_users_may_be_absent(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "users.dat"}
    tables = import_files(tmp_path, files, format="movielens")
    assert tables.users().num_rows == 0
    assert tables.schema.user_fields == ()


def test_events_of_unknown_items_and_equal_events_are_kept(tmp_path: Path) -> None:
    ratings = RATINGS + "9::77::5::978300060\n" + "2::10::4::978300060\n"
    tables = import_files(tmp_path, FILES | {"ratings.dat": ratings}, format="movielens")
    assert events_of(tables)[-2:] == [("9", "77", 978300060), ("2", "10", 978300060)]
    assert tables.artifact.counts["events_without_catalogue_item"] == 1


def test_bad_rows_are_set_aside_with_line_and_reason(tmp_path: Path) -> None:
    ratings = RATINGS + (
        "::10::5::978300019\n1::::5::978300019\n1::10::five::978300019\n1::10::::978300019\n1::10::5::soon\n"
        "1::10::5\n1::10::5::97830001900\n\n1::10::5::-4\n"
    )
    movies = MOVIES + b"10::Again (2000)::Drama\n::No id (2000)::Drama\n12::Two::Titles::Drama\n"
    tables = import_files(tmp_path, FILES | {"ratings.dat": ratings, "movies.dat": movies}, format="movielens")
    assert rejects_of(tables) == [
        ("movies.dat", 5, "wrong_number_of_columns", "12::Two::Titles::Drama"),
        ("movies.dat", 3, "duplicate_item_id", "10::Again (2000)::Drama"),
        ("movies.dat", 4, "missing_item_id", "::No id (2000)::Drama"),
        ("ratings.dat", 9, "wrong_number_of_columns", "1::10::5"),
        ("ratings.dat", 4, "missing_user_id", "::10::5::978300019"),
        ("ratings.dat", 5, "missing_item_id", "1::::5::978300019"),
        ("ratings.dat", 6, "rating_not_a_number", "1::10::five::978300019"),
        ("ratings.dat", 7, "missing_rating", "1::10::::978300019"),
        ("ratings.dat", 8, "unparsable_timestamp", "1::10::5::soon"),
        ("ratings.dat", 10, "timestamp_out_of_range", "1::10::5::97830001900"),
        ("ratings.dat", 12, "timestamp_out_of_range", "1::10::5::-4"),
    ]
    assert tables.artifact.counts["blank_lines"] == 1
    assert tables.items()["title"].to_pylist() == ["Misérables, Les (1995)", "Untitled"]
    assert_nothing_lost(tables)


PART = st.sampled_from(["1", "22", "x", "", " ", "978300019", "é", "-1", "::", "4.5"])


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(st.lists(PART, max_size=5).map("::".join), max_size=12))
def test_no_line_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    ratings = "".join(line + "\n" for line in [*lines, "1::10::5::978300019"])
    files = FILES | {"ratings.dat": ratings}
    tables = import_files(tmp_path_factory.mktemp("lines"), files, format="movielens", minimum_rating=4)
    assert tables.artifact.counts["records"]["ratings.dat"] == len(lines) + 1
    assert len({line for line, _ in reasons_of(tables)}) == len(reasons_of(tables))
    assert_nothing_lost(tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratings.dat": None}, r"no file .*ratings\.dat.*Cure"),
        ({"movies.dat": None}, r"no file .*movies\.dat.*Cure"),
        ({"ratings.dat": "userId,movieId,rating,timestamp\n1,2,3,4\n"}, r"ratings\.dat:1: none of its 2 records.*Cure"),
        ({"ratings.dat": "1::2::3::soon\n"}, r"ratings\.dat:1: .*unparsable_timestamp.*1::2::3::soon.*Cure"),
        ({"ratings.dat": ""}, r"ratings\.dat holds no records"),
        ({"movies.dat": b"\x00\x01\x02"}, r"movies\.dat:1: none of its 1 records"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    tmp_path: Path, change: dict[str, str | bytes | None], message: str
) -> None:
    files = {name: content for name, content in (FILES | change).items() if content is not None}
    with pytest.raises(InputError, match=message):
        import_files(tmp_path, files, format="movielens")
    assert not list(tmp_path.glob("work/tables/**"))


def test_a_minimum_nothing_reaches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="minimum_rating"):
        import_files(tmp_path, FILES, format="movielens", minimum_rating=6)
