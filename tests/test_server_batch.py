"""Several requests at once over HTTP: in one batch, and from many clients."""

import asyncio
from typing import Any

import httpx
import pytest
from serving_fixture import USERS, item_id

from serving.client import AsyncRetrievalClient
from serving.schemas import BatchResponse, ErrorResponse, RecommendResponse

ODD = item_id(7)


def post(url: str, body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/recommend", json=body)


def test_batch_answers_each_request_as_if_it_came_alone(server_url: str) -> None:
    requests = [{"user_id": f"u{i}", "k": 3 + i} for i in range(20)] + [{"history": [ODD], "fields": ["price"]}]
    response = httpx.post(f"{server_url}/v1/recommend/batch", json={"requests": requests})
    answer = BatchResponse.model_validate(response.json(), extra="forbid")
    for request, result in zip(requests, answer.results, strict=True):
        alone = RecommendResponse.model_validate(post(server_url, request).json())
        assert result.items is not None
        assert [item.item_id for item in result.items] == [item.item_id for item in alone.items]
        assert [item.score for item in result.items] == pytest.approx([item.score for item in alone.items], abs=2e-6)
        assert result.history_length == alone.history_length


def test_impossible_request_does_not_spoil_its_batch(server_url: str) -> None:
    requests = [{"user_id": "stranger"}, {"user_id": "u3", "k": 2}, {"features": {"gendr": "f"}}, {"user_id": "u1"}]
    requests[3]["fields"] = ["prize"]
    results = httpx.post(f"{server_url}/v1/recommend/batch", json={"requests": requests}).json()["results"]
    assert [result.get("error", {}).get("code") for result in results] == [
        "not_found",
        None,
        "invalid_request",
        "invalid_request",
    ]
    assert len(results[1]["items"]) == 2


@pytest.mark.parametrize("count", [0, 257])
def test_batch_of_impossible_size_is_refused(server_url: str, count: int) -> None:
    body = {"requests": [{"user_id": "u3"}] * count}
    response = httpx.post(f"{server_url}/v1/recommend/batch", json=body)
    assert response.status_code == 422
    assert "requests: List should have" in ErrorResponse.model_validate(response.json()).error.message


def test_requests_that_come_together_are_answered_as_if_alone(server_url: str) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with AsyncRetrievalClient(server_url) as client:
            users = [f"u{i % USERS}" for i in range(60)]
            return await asyncio.gather(*(client.recommend(user, k=7) for user in users))

    answers = asyncio.run(ask())
    for i, answer in enumerate(answers):
        alone = post(server_url, {"user_id": f"u{i % USERS}", "k": 7}).json()
        assert [item["item_id"] for item in answer["items"]] == [item["item_id"] for item in alone["items"]]
