"""What people look up before they know an id: search, fields, listed neighbours, the map; by plain Python beside it."""

import dataclasses
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fixture import CATEGORIES, ITEMS, TRAINED, USERS, item_id, near, user_id

from pipeline.errors import RequestError
from serving.browse import Browse
from serving.browse_schemas import FieldsResponse, ItemsResponse, MapResponse, UsersResponse
from serving.bundle import Bundle
from serving.errors import AbsentError, NotFoundError
from serving.schemas import SimilarResponse

TITLES = {i: "" if i % 50 == 0 else f"Title {i}" for i in range(1, ITEMS + 1)}


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


def merit(index: int, query: str) -> int | None:
    """How well an item matches, best lowest; None when it does not."""
    title, wanted = TITLES[index].lower(), query.lower()
    tests = [item_id(index) == query, title == wanted, title.startswith(wanted), f" {wanted}" in title, wanted in title]
    return tests.index(True) if any(tests) else len(tests) if item_id(index).startswith(query) else None


@given(
    st.sampled_from(["title", "TITLE 1", "12", "i1", "i007", "odd", "le 2", "(", ".*", "é", "nothing"]),
    st.integers(1, 50),
)
def test_item_search_is_that_of_plain_python(bundle: Bundle, query: str, limit: int) -> None:
    matching = [(rank, -max(0, TRAINED - i + 1), i) for i in TITLES if (rank := merit(i, query)) is not None]
    found = Browse(bundle).search_items(query, limit)
    assert [item["item_id"] for item in found] == [item_id(i) for _, _, i in sorted(matching)[:limit]]


def test_empty_search_gives_the_popular_items(bundle: Bundle) -> None:
    found = Browse(bundle).search_items(" ", 3)
    assert [(item["title"], item["train_events"]) for item in found] == [
        (f"Title {i}", TRAINED + 1 - i) for i in (1, 2, 3)
    ]


@pytest.mark.parametrize(("query", "expected"), [("u3", ["u3", "u30", "u31"]), ("u39", ["u39"]), ("3", []), ("U3", [])])
def test_user_search_is_by_the_beginning_of_the_id(bundle: Bundle, query: str, expected: list[str]) -> None:
    assert [user["user_id"] for user in Browse(bundle).search_users(query, 3)] == expected


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_empty_user_search_gives_different_users(bundle: Bundle, limit: int) -> None:
    found = [user["user_id"] for user in Browse(bundle).search_users("", limit)]
    assert 0 < len(set(found)) == len(found) <= limit
    assert set(found) <= {user_id(i) for i in range(1, USERS + 1)}


def test_fields_tell_values_counts_and_ranges(bundle: Bundle) -> None:
    fields = Browse(bundle).fields
    assert fields["category"]["values"] == [{"value": name, "items": ITEMS // 3} for name in CATEGORIES]
    tags = [[t for j, t in enumerate("abcd") if i >> j & 1] for i in range(ITEMS)]
    assert {each["value"]: each["items"] for each in fields["tags"]["values"]} == {
        t: sum(t in each for each in tags) for t in "abcd"
    }
    assert fields["tags"]["missing"] == sum(not each for each in tags)
    assert fields["price"] == {"kind": "numeric", "low": 1.0, "high": ITEMS - 1.0, "missing": ITEMS // 10}


@pytest.mark.parametrize("index", [1, 2, 8, 51, 299, 300])
@pytest.mark.parametrize(("kind", "best"), [("session", 6.0), ("title", 0.9)])
def test_listed_neighbours_and_scores_are_those_of_prepare(bundle: Bundle, kind: str, best: float, index: int) -> None:
    items, scores = Browse(bundle).neighbours(item_id(index), kind)
    assert items.tolist() == near(index)[kind]
    assert scores[:1].tolist() == pytest.approx([best][: len(items)])
    assert (np.diff(scores) < 0).all()


def test_parts_that_are_not_there_are_named_with_the_cure(bundle: Bundle) -> None:
    bare = Browse(dataclasses.replace(bundle, neighbours={}, map=None))
    with pytest.raises(AbsentError, match=r"no neighbours by title .* twotower prepare"):
        bare.neighbours("i008", "title")
    with pytest.raises(AbsentError, match=r"no map .* `export\.map_items`"):
        bare.map("")
    with pytest.raises(NotFoundError, match="'nope'"):
        bare.neighbours("nope", "title")
    with pytest.raises(RequestError, match="unknown item field"):
        Browse(bundle).map("nope")


def get(url: str, path: str, **params: object) -> httpx.Response:
    return httpx.get(f"{url}/v1/{path}", params=params)


def test_answers_are_as_documented(server_url: str) -> None:
    for path, model in (
        ("items?q=title", ItemsResponse),
        ("users", UsersResponse),
        ("fields", FieldsResponse),
        ("map?field=tags", MapResponse),
    ):
        model.model_validate(httpx.get(f"{server_url}/v1/{path}").json(), extra="forbid")


def test_map_holds_each_item_once_with_its_title_and_value(server_url: str) -> None:
    shown = get(server_url, "map", field="price").json()
    assert len(set(shown["item_id"])) == len(shown["x"]) == len(shown["y"]) == 60
    index = {item_id(i): i for i in TITLES}
    assert shown["title"] == [TITLES[index[i]] or None for i in shown["item_id"]]
    assert shown["value"] == [None if (index[i] - 1) % 10 == 0 else index[i] - 1.0 for i in shown["item_id"]]
    assert max(map(abs, [*shown["x"], *shown["y"]])) == 1.0


def test_listed_neighbours_heed_filter_exclusion_and_k(server_url: str) -> None:
    params = {"kind": "session", "k": 2, "exclude": "i010", "filter": '{"field":"price","gte":10}'}
    answer = SimilarResponse.model_validate(get(server_url, "items/i008/similar", **params).json(), extra="forbid")
    assert answer.kind == "session"
    # 9 to 14 are near; 9 costs 8, 10 is excluded, 11 costs 10.
    assert [item.item_id for item in answer.items] == ["i012", "i013"]


@pytest.mark.parametrize("path", ["items", "items/i008", "users/u3", "bundle", "fields", "map", "items/i008/similar"])
def test_second_bundle_that_is_not_there_is_told_with_the_cure(server_url: str, path: str) -> None:
    response = get(server_url, path, bundle="compare")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_in_bundle")
    assert "--compare" in response.json()["error"]["message"]
