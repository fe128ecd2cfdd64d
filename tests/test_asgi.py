"""The ASGI application by itself: what happens before and after a handler."""

import asyncio
import json
from typing import Any

import pytest

from pipeline.config_serve import ServeConfig
from serving.asgi import App
from serving.metrics import Metrics
from serving.protection import Gate
from serving.route import Request, Route, Router
from serving.schemas import EventsRequest, HealthResponse
from serving.shared_numbers import SharedNumbers


class Api:
    """Handlers that tell what reached them."""

    async def hello(self, request: Request) -> bytes:
        """Say hello."""
        return json.dumps({"id": request.path_id, "body": len(request.body)}).encode()

    async def fail(self, request: Request) -> bytes:
        """Fail."""
        raise ValueError("a secret of the server")


@pytest.fixture
def app(tmp_path):
    api = Api()
    routes = [
        Route("GET", "/hello", api.hello, HealthResponse),
        Route("POST", "/hello", api.hello, HealthResponse, body=EventsRequest),
        Route("GET", "/hello/{id}", api.hello, HealthResponse),
        Route("GET", "/hello/{id}/again", api.fail, HealthResponse),
        Route("POST", "/full", api.fail, HealthResponse, body=EventsRequest, full=lambda: True),
    ]
    names = ["hello", "fail"]
    numbers, buckets = SharedNumbers.make(1, Metrics.columns(names)), SharedNumbers.make(1, 2)
    metrics = Metrics(SharedNumbers(numbers, 1, Metrics.columns(names)), 0, names)
    yield App(routes, {}, ServeConfig(max_body_bytes=10), metrics, Gate([], SharedNumbers(buckets, 1, 2)))
    numbers.unlink()
    buckets.unlink()


def call(app: App, method: str, path: str, *parts: bytes) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and JSON of an answer to a request whose body comes in parts."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "raw_path": path.encode(), "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


@pytest.mark.parametrize(
    ("path", "path_id"), [("/hello", ""), ("/hello/a%2Fb", "a%2Fb"), ("/hello/a/b", "a/b"), ("/hello/again", "again")]
)
def test_path_leads_to_its_route(app, path, path_id):
    assert call(app, "GET", path)[2] == {"id": path_id, "body": 0}


def test_body_in_parts_is_put_together(app):
    assert call(app, "POST", "/hello", b"12345", b"678")[2]["body"] == 8


def test_body_that_is_too_large_ends_the_connection(app):
    status, headers, _ = call(app, "POST", "/hello", b"12345", b"678901")
    assert (status, headers[b"connection"]) == (413, b"close")


def test_full_queue_is_told_before_the_body_is_read(app):
    status, headers, content = call(app, "POST", "/full", b"x" * 100)
    assert (status, headers[b"retry-after"], content["error"]["code"]) == (503, b"1", "overloaded")


def test_fault_of_the_server_tells_nothing_of_it(app, caplog):
    status, _, content = call(app, "GET", "/hello/x/again")
    assert (status, content["error"]["code"]) == (500, "internal")
    assert "secret" not in content["error"]["message"]
    assert "a secret of the server" in caplog.text


def test_router_prefers_the_longer_path():
    api = Api()
    routes = [Route("GET", path, api.hello, None) for path in ("/a/{x}", "/a/{x}/b", "/a")]
    router = Router(routes)
    found = {path: router.find(path)[0].get("GET") for path in ("/a/1/b", "/a/1", "/a", "/a/", "/b")}
    assert [route and route.path for route in found.values()] == ["/a/{x}/b", "/a/{x}", "/a", None, None]
