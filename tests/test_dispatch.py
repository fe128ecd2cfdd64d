"""Dispatching by itself: what happens before and after a handler."""

import json
from typing import Any

import pytest

from pipeline.config_serve import ServeConfig
from serving.dispatch import App, Exchange
from serving.metrics import Metrics
from serving.protection import Gate
from serving.route import Request, Route, Router
from serving.schemas import EventsRequest, HealthResponse
from serving.shared_numbers import SharedNumbers


class Api:
    """Handlers that tell what reached them."""

    def hello(self, request: Request) -> bytes:
        """Say hello."""
        return json.dumps({"id": request.path_id, "body": len(request.body)}).encode()

    def fail(self, request: Request) -> bytes:
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


def call(app: App, method: str, path: str, *parts: bytes) -> tuple[Exchange, Any]:
    """What became of a request whose body comes in parts, and the JSON of its answer."""
    exchange = Exchange(method, path, b"", {}, answered=lambda: None)
    app.begin(exchange)
    for part in parts:
        if exchange.content is None:
            app.take_body(exchange, part)
    if exchange.content is None:
        app.finish(exchange)
    assert exchange.content is not None
    return exchange, json.loads(exchange.content)


@pytest.mark.parametrize(
    ("path", "path_id"), [("/hello", ""), ("/hello/a%2Fb", "a%2Fb"), ("/hello/a/b", "a/b"), ("/hello/again", "again")]
)
def test_path_leads_to_its_route(app, path, path_id):
    assert call(app, "GET", path)[1] == {"id": path_id, "body": 0}


def test_body_in_parts_is_put_together(app):
    assert call(app, "POST", "/hello", b"12345", b"678")[1]["body"] == 8


def test_body_that_is_too_large_ends_the_connection(app):
    exchange, _ = call(app, "POST", "/hello", b"12345", b"678901")
    assert (exchange.status, exchange.hang_up) == (413, True)


def test_full_queue_is_told_before_the_body_is_read(app):
    exchange, content = call(app, "POST", "/full", b"x" * 100)
    assert (exchange.status, dict(exchange.more)[b"retry-after"]) == (503, b"1")
    assert (content["error"]["code"], exchange.body) == ("overloaded", b"")


def test_fault_of_the_server_tells_nothing_of_it(app, caplog):
    exchange, content = call(app, "GET", "/hello/x/again")
    assert (exchange.status, content["error"]["code"]) == (500, "internal")
    assert "secret" not in content["error"]["message"]
    assert "a secret of the server" in caplog.text


def test_router_prefers_the_longer_path():
    api = Api()
    routes = [Route("GET", path, api.hello, None) for path in ("/a/{x}", "/a/{x}/b", "/a")]
    router = Router(routes)
    found = {path: router.find(path)[0].get("GET") for path in ("/a/1/b", "/a/1", "/a", "/a/", "/b")}
    assert [route and route.path for route in found.values()] == ["/a/{x}/b", "/a/{x}", "/a", None, None]
