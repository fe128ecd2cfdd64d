"""The Python client against a real server process."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from serving_fixture import ITEMS, item_id

from pipeline.errors import RequestError
from serving.client import AsyncRetrievalClient, RetrievalClient
from serving.errors import NotFoundError

ODD = item_id(7)


@pytest.fixture
def client(server_url: str) -> Iterator[RetrievalClient]:
    with RetrievalClient(server_url) as connected:
        yield connected


def test_every_call_is_the_one_of_the_http_api(client: RetrievalClient, server_url: str) -> None:
    def get(path: str) -> object:
        return httpx.get(f"{server_url}/v1/{path}").json()

    assert client.item("i001") == get("items/i001")
    assert client.user("u3", recent=2) == get("users/u3?recent=2")
    assert client.similar("i001", k=4, fields=["price", "tags"]) == get("items/i001/similar?k=4&field=price&field=tags")
    assert client.similar("i008", k=3, kind="session") == get("items/i008/similar?k=3&kind=session")
    assert client.search_items("title 2", limit=4) == get("items?q=title%202&limit=4")
    assert client.search_users("u1") == get("users?q=u1")
    assert client.fields() == get("fields")
    assert client.item_map("tags") == get("map?field=tags")
    assert client.bundle() == get("bundle")
    assert client.health() == get("health")
    assert client.reload() == {"bundle": client.bundle()["run"], "changed": False, "error": None}
    body = {"user_id": "u3", "history": ["i004"], "features": {"gender": "f"}, "k": 3, "exclude": ["i005"]}
    body |= {"exclude_seen": False, "fields": ["price"]}
    assert client.recommend(**body) == httpx.post(f"{server_url}/v1/recommend", json=body).json()


def test_awkward_ids_survive_the_url(client: RetrievalClient) -> None:
    assert client.item(ODD)["item_id"] == ODD
    assert len(client.similar(ODD, k=5)["items"]) == 5


def test_empty_history_is_sent_as_one(client: RetrievalClient) -> None:
    assert client.recommend(history=[], k=3)["known_user"] is False


@pytest.mark.parametrize("call", [lambda c: c.item("nope"), lambda c: c.user("nope"), lambda c: c.recommend("nope")])
def test_unknown_ids_raise_not_found(client: RetrievalClient, call: Callable[[RetrievalClient], object]) -> None:
    with pytest.raises(NotFoundError, match="'nope' is not in this bundle"):
        call(client)


@pytest.mark.parametrize("name", [".", ".."])
def test_id_of_dots_does_not_lead_elsewhere(client: RetrievalClient, name: str) -> None:
    with pytest.raises(NotFoundError, match=f"item '{name}' is not in this bundle"):
        client.item(name)


def test_refused_request_raises_with_the_servers_message(client: RetrievalClient) -> None:
    with pytest.raises(RequestError, match="`k` must be at most 200"):
        client.recommend("u3", k=ITEMS)


def test_no_server_raises_with_the_cure() -> None:
    with (
        RetrievalClient("http://127.0.0.1:9") as client,
        pytest.raises(RequestError, match=r"no answer from http://127\.0\.0\.1:9.* Cure: start one"),
    ):
        client.health()


def test_answer_of_something_else_raises_with_its_status(server_url: str) -> None:
    with (
        RetrievalClient(f"{server_url}/nowhere") as client,
        pytest.raises(RequestError, match="there is nothing at /nowhere/v1/health"),
    ):
        client.health()


def test_async_client_answers_what_the_other_does(client: RetrievalClient, server_url: str) -> None:
    async def ask() -> list[dict[str, object]]:
        async with AsyncRetrievalClient(server_url) as other:
            return [await other.item("i001"), await other.similar(ODD, k=4), await other.recommend("u3", k=3)]

    assert asyncio.run(ask()) == [client.item("i001"), client.similar(ODD, k=4), client.recommend("u3", k=3)]


def test_async_client_raises_what_the_other_does(server_url: str) -> None:
    async def ask() -> None:
        async with AsyncRetrievalClient(server_url) as other:
            await other.user("nope")

    with pytest.raises(NotFoundError, match="'nope' is not in this bundle"):
        asyncio.run(ask())


def test_batch_is_sent_whole(client: RetrievalClient) -> None:
    results = client.recommend_batch([{"user_id": "u3", "k": 2}, {"history": ["i001"], "k": 4}])["results"]
    assert [len(result["items"]) for result in results] == [2, 4]
    with pytest.raises(NotFoundError, match="no second bundle"):
        client.recommend_batch([{"user_id": "u3"}], bundle="compare")
