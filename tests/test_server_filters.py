"""Filters over HTTP."""

from typing import Any

import httpx
import pytest
from serving_fixture import ITEMS, item_id

from serving.schemas import ErrorResponse


def post(url: str, body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/recommend", json=body)


def similar(url: str, **params: Any) -> httpx.Response:
    return httpx.get(f"{url}/v1/items/i001/similar", params=params)


def assert_refused(response: httpx.Response, message: str) -> None:
    assert response.status_code == 422
    assert message in ErrorResponse.model_validate(response.json(), extra="forbid").error.message


def test_filter_is_applied_and_compared_with_the_catalogue(server_url: str) -> None:
    chosen = {"and": [{"field": "category", "eq": "film"}, {"field": "price", "gte": 100, "lt": 150}]}
    answer = post(server_url, {"history": ["i001"], "k": 200, "filter": chosen, "fields": ["category", "price"]}).json()
    expected = {item_id(i) for i in range(1, ITEMS + 1) if (i - 1) % 3 == 1 and 100 <= i - 1 < 150 and (i - 1) % 10}
    assert {item["item_id"] for item in answer["items"]} == expected


def test_filter_of_similar_items_is_json_in_the_query(server_url: str) -> None:
    params = {"k": 200, "field": "category", "filter": '{"field": "category", "eq": "film"}'}
    items = similar(server_url, **params).json()["items"]
    assert items
    assert {item["fields"]["category"] for item in items} == {"film"}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"field": "categry", "eq": "film"}, "Did you mean `category`?"),
        ({"field": "category", "gte": 3}, "not numeric"),
        ({}, "must have one of the keys"),
        ("film", "filter: Input should be an object"),
    ],
)
def test_impossible_filter_is_refused(server_url: str, chosen: Any, message: str) -> None:
    assert_refused(post(server_url, {"user_id": "u3", "filter": chosen}), message)


def test_filter_of_similar_items_that_is_not_json_is_refused(server_url: str) -> None:
    assert_refused(similar(server_url, filter="{"), "filter: Invalid JSON")
