"""The HTTP API of a real server process: answers, errors, limits, documentation."""

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from serving_fixture import ITEMS, TRAINED, USERS, history, item_id, running_server

from serving.bundle import Bundle
from serving.retriever import Query, Retriever
from serving.schemas import (
    BundleResponse,
    ErrorResponse,
    HealthResponse,
    ItemResponse,
    ReadyResponse,
    RecommendResponse,
    SimilarResponse,
    UserResponse,
)

ODD = item_id(7)


def post(url: str, body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/recommend", json=body)


def get(url: str, path: str, **params: Any) -> httpx.Response:
    return httpx.get(f"{url}/v1/{path}", params=params)


def assert_refused(response: httpx.Response, status: int, message: str) -> None:
    """The answer is an error of the documented shape whose message holds a text."""
    assert response.status_code == status
    error = ErrorResponse.model_validate(response.json(), extra="forbid").error
    assert message in error.message


def test_recommend_answers_what_the_retriever_does(server_url: str, bundle_path: Path) -> None:
    answer = RecommendResponse.model_validate(post(server_url, {"user_id": "u3", "k": 12}).json(), extra="forbid")
    expected = Retriever(Bundle.open(bundle_path)).recommend(Query("u3", k=12))
    assert [item.item_id for item in answer.items] == [item_id(int(i)) for i in expected.items]
    assert [item.score for item in answer.items] == pytest.approx(expected.scores.tolist(), abs=1e-6)
    assert (answer.known_user, answer.history_length) == (True, len(expected.history))


def test_recommend_returns_titles_and_asked_fields(server_url: str) -> None:
    body = {"history": [], "k": 200, "fields": ["price", "tags"]}
    items = {item["item_id"]: item for item in post(server_url, body).json()["items"]}
    index = next(i for i in range(1, ITEMS) if item_id(i) in items and i % 50 and (i - 1) % 10)
    assert items[item_id(index)]["title"] == f"Title {index}"
    assert items[item_id(index)]["fields"].keys() == {"price", "tags"}
    assert items[item_id(index)]["fields"]["price"] == index - 1


def test_recommend_by_history_and_features_reports_what_it_ignored(server_url: str) -> None:
    body = {"history": [ODD, "nope"], "features": {"gender": "f", "age": 30, "interests": ["a"]}, "exclude": ["x"]}
    answer = post(server_url, body).json()
    assert answer["ignored"] == {"history": ["nope"], "exclude": ["x"]}
    assert (answer["known_user"], answer["history_length"], len(answer["items"])) == (False, 1, 50)
    assert ODD not in [item["item_id"] for item in answer["items"]]


def test_server_of_short_answers_gives_what_it_has_when_not_told_how_many(bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log", max_k=7) as (url, _):
        assert len(post(url, {"user_id": "u3"}).json()["items"]) == 7
        assert len(get(url, f"items/{item_id(1)}/similar").json()["items"]) == 7
        assert post(url, {"user_id": "u3", "k": 8}).status_code == 422


@pytest.mark.parametrize("name", [item_id(1), ODD])
def test_similar_items(server_url: str, name: str) -> None:
    response = get(server_url, f"items/{quote(name, safe='')}/similar", k=5, field=["category"])
    answer = SimilarResponse.model_validate(response.json(), extra="forbid")
    assert answer.item_id == name
    assert len(answer.items) == 5
    assert name not in [item.item_id for item in answer.items]
    assert all(item.fields is not None and item.fields.keys() == {"category"} for item in answer.items)


@pytest.mark.parametrize("index", [1, 7])
def test_item_look_up(server_url: str, index: int) -> None:
    response = get(server_url, f"items/{quote(item_id(index), safe='')}")
    answer = ItemResponse.model_validate(response.json(), extra="forbid")
    assert (answer.item_id, answer.title) == (item_id(index), f"Title {index}")
    assert answer.train_events == TRAINED - index + 1


def test_user_look_up(server_url: str) -> None:
    answer = UserResponse.model_validate(get(server_url, "users/u4", recent=3).json(), extra="forbid")
    assert [item.item_id for item in answer.recent] == [item_id(i) for i in history(5) if i][-3:]


def test_bundle_info(server_url: str) -> None:
    answer = BundleResponse.model_validate(get(server_url, "bundle").json(), extra="forbid")
    assert (answer.items, answer.users, answer.max_k) == (ITEMS, USERS, 200)
    assert answer.user_features == {"gender": "categorical", "age": "numeric", "interests": "multi"}
    assert answer.counts["recall"]["value"] == 1.0


def test_answers_do_not_wait_for_the_delayed_acknowledgement_of_tcp(server_url: str) -> None:
    # Without TCP_NODELAY most answers on a kept connection take 40 ms.
    seconds = []
    with httpx.Client(base_url=server_url) as kept:
        for _ in range(30):
            started = time.perf_counter()
            kept.get("/v1/health")
            seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[10] < 0.03


def test_health(server_url: str) -> None:
    answer = HealthResponse.model_validate(get(server_url, "health").json(), extra="forbid")
    assert answer.status == "ok"


def test_ready_names_the_bundle(server_url: str) -> None:
    assert ReadyResponse.model_validate(get(server_url, "ready").json(), extra="forbid").bundle.startswith("run=")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give `user_id`, `history` or `features`"),
        ({"user_id": "u1", "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"user_id": "u1", "k": 201}, "`k` must be at most 200"),
        ({"user_id": "u1", "k": "5"}, "k: Input should be a valid integer"),
        ({"user_id": 1}, "user_id: Input should be a valid string"),
        ({"user_id": ""}, "user_id: String should have at least 1 character"),
        ({"user_id": "u1", "kay": 5}, "kay: Extra inputs are not permitted"),
        ({"history": "i001"}, "history: Input should be a valid array"),
        ({"history": [1]}, "history.0: Input should be a valid string"),
        ({"history": ["x"] * 10_001}, "history: List should have at most 10000 items"),
        ({"history": [], "exclude": ["x"] * 10_001}, "exclude: List should have at most 10000 items"),
        ({"features": {"gendr": "f"}}, "unknown feature 'gendr'. Did you mean `gender`?"),
        ({"features": {"age": "old"}}, "feature `age` must be a finite number or null, not str"),
        ({"features": {"age": {"years": 3}}}, "features.age: Input should be a string, a finite number"),
        ({"features": {"age": True}}, "features.age: Input should be a string, a finite number"),
        ({"history": [], "fields": ["prize"]}, "unknown item field 'prize'. Did you mean `price`?"),
        ([], "Input should be an object"),
    ],
)
def test_impossible_request_is_refused(server_url: str, body: Any, message: str) -> None:
    assert_refused(post(server_url, body), 422, message)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"features":{"age":' + b"9" * 5000 + b"}}", 400),
        (b'{"features":{"age":NaN}}', 422),
        (b'{"features":{"age":1e999}}', 422),
        (rb'{"history":["\ud800"]}', 400),
        (rb'{"\ud800":1}', 400),
        (rb'{"features":{"\ud800":"x"}}', 400),
    ],
)
def test_malformed_body_is_refused(server_url: str, content: bytes, status: int) -> None:
    response = httpx.post(f"{server_url}/v1/recommend", content=content, headers={"Content-Type": "application/json"})
    assert_refused(response, status, "")


def test_body_of_another_content_type_is_refused_with_the_cure(server_url: str) -> None:
    response = httpx.post(f"{server_url}/v1/recommend", content=b'{"user_id":"u1"}')
    assert_refused(response, 415, "Content-Type: application/json")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("items/nope", "item 'nope' is not in this bundle"),
        ("items/nope/similar", "item 'nope' is not in this bundle"),
        ("users/nope", "user 'nope' is not in this bundle"),
        ("nowhere", "there is nothing at /v1/nowhere"),
    ],
)
def test_unknown_path_user_or_item_is_not_found(server_url: str, path: str, message: str) -> None:
    assert_refused(get(server_url, path), 404, message)


def test_unknown_user_without_more_is_not_found(server_url: str) -> None:
    assert_refused(post(server_url, {"user_id": "stranger"}), 404, "Cure: give `history` or `features`")


@pytest.mark.parametrize("k", ["0", "201", "many"])
def test_impossible_k_of_similar_is_refused(server_url: str, k: str) -> None:
    assert_refused(get(server_url, "items/i001/similar", k=k), 422, "k")


def test_similar_items_leave_out_the_excluded(server_url: str) -> None:
    best = [item["item_id"] for item in get(server_url, "items/i001/similar", k=3).json()["items"]]
    others = [item["item_id"] for item in get(server_url, "items/i001/similar", k=3, exclude=best[0]).json()["items"]]
    assert others[:2] == best[1:]


def test_wrong_method_is_refused_with_the_right_ones(server_url: str) -> None:
    response = httpx.get(f"{server_url}/v1/recommend")
    assert_refused(response, 405, "takes POST, not GET")
    assert response.headers["allow"] == "POST"


def test_head_is_answered_without_a_body(server_url: str) -> None:
    response = httpx.head(f"{server_url}/v1/items/i001")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len(get(server_url, "items/i001").content)


def test_metrics_count_what_was_answered(server_url: str) -> None:
    def counted(status: int) -> float:
        text = httpx.get(f"{server_url}/metrics").text
        found = re.search(rf'twotower_requests_total{{route="recommend",status="{status}"}} (\d+)', text)
        return float(found[1]) if found else 0.0

    before = counted(200), counted(404)
    post(server_url, {"user_id": "u3"})
    post(server_url, {"user_id": "stranger"})
    assert (counted(200), counted(404)) == (before[0] + 1, before[1] + 1)


def test_documentation_is_a_page_that_loads_nothing(server_url: str) -> None:
    response = httpx.get(f"{server_url}/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert "/v1/recommend/batch" in response.text
    assert "http://" not in response.text.replace("https://", "http://")


def test_documentation_tells_the_values_of_parameters(server_url: str) -> None:
    page = httpx.get(f"{server_url}/docs").text
    assert "One of embedding, session, title. Default: embedding.</li>" in page
    assert "A number from 1 on. Default: 50.</li>" in page


def test_openapi_documents_every_response(server_url: str) -> None:
    paths = httpx.get(f"{server_url}/openapi.json").json()["paths"]
    documented = {}
    for path, operations in paths.items():
        for operation in operations.values():
            good = next(response for status, response in operation["responses"].items() if status.startswith("2"))
            schema = good["content"].get("application/json", {}).get("schema", {"$ref": "text"})
            documented[path] = schema["$ref"].rsplit("/", 1)[-1]
            for status, response in operation["responses"].items():
                if status >= "4":
                    assert response["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")
    assert documented == {
        "/v1/recommend": "RecommendResponse",
        "/v1/recommend/batch": "BatchResponse",
        "/v1/items": "ItemsResponse",
        "/v1/users": "UsersResponse",
        "/v1/fields": "FieldsResponse",
        "/v1/map": "MapResponse",
        "/v1/items/{item_id}": "ItemResponse",
        "/v1/items/{item_id}/similar": "SimilarResponse",
        "/v1/users/{user_id}": "UserResponse",
        "/v1/events": "EventsResponse",
        "/v1/bundle": "BundleResponse",
        "/v1/health": "HealthResponse",
        "/v1/ready": "ReadyResponse",
        "/v1/admin/reload": "ReloadResponse",
        "/metrics": "text",
    }
