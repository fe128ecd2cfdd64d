"""HTTP on one connection, however its bytes arrive: every request one answer, in order, and no more than that."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from pipeline.config_serve import ServeConfig
from serving import http_protocol
from serving.dispatch import App
from serving.http_protocol import PIPELINED, HttpProtocol, Shared
from serving.metrics import Metrics
from serving.protection import Gate
from serving.route import Request, Route
from serving.schemas import EventsRequest
from serving.shared_numbers import SharedNumbers


class Wire:
    """The transport of a client that takes everything: what was written, and whether reading goes on."""

    def __init__(self) -> None:
        self.written, self.closed, self.reading = b"", False, True

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Api:
    """Echoes bodies at once, or when told to."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bytes]] = []
        self.lone: list[bool] = []

    def echo(self, request: Request) -> bytes:
        """Echo."""
        self.lone.append(request.lone)
        return b"<" + request.body + request.query + b">"

    def later(self, request: Request) -> Awaitable[bytes]:
        """Echo later."""
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]


@pytest.fixture(scope="module")
def numbers() -> Any:
    names = ["echo", "later"]
    files = SharedNumbers.make(1, Metrics.columns(names)), SharedNumbers.make(1, 2)
    metrics = Metrics(SharedNumbers(files[0], 1, Metrics.columns(names)), 0, names)
    yield metrics, Gate([], SharedNumbers(files[1], 1, 2))
    for file in files:
        file.unlink()


def talk(numbers: Any, say: Callable[[HttpProtocol, Wire, Api, Shared], Any], **limits: Any) -> Wire:
    """Connect, have it said, and let what was called later happen."""

    async def work() -> Wire:
        api, wire = Api(), Wire()
        routes = [
            Route("GET", "/echo", api.echo, None),
            Route("POST", "/echo", api.echo, None, body=EventsRequest),
            Route("POST", "/later", api.later, None, body=EventsRequest),
            Route("POST", "/full", api.echo, None, body=EventsRequest, full=lambda: True),
        ]
        given = ServeConfig(**limits)
        shared = Shared(App(routes, {}, given, *numbers), given)
        protocol = HttpProtocol(shared, server_state=ServerState())
        protocol.connection_made(wire)
        await (said if (said := say(protocol, wire, api, shared)) is not None else asyncio.sleep(0))
        for _ in range(3):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return wire

    return asyncio.run(work())


def post(body: bytes, path: str = "/echo", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def answers(written: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append((int(head.split()[1]), rest[:length]))
        written = rest[length:]
    return found


CHUNKED = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
CONVERSATION = post(b"one") + b"GET /echo?q=1 HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED + post(b"") + post(b"x" * 70)
EXPECTED = [(200, b"<one>"), (200, b"<q=1>"), (200, b"<abc>"), (200, b"<>"), (200, b"<" + b"x" * 70 + b">")]


@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=8))
@settings(max_examples=50, deadline=None)
def test_answers_do_not_depend_on_how_the_bytes_arrive(numbers: Any, cuts: list[int]) -> None:
    def say(protocol: HttpProtocol, *_: Any) -> None:
        places = [0, *sorted(cuts), len(CONVERSATION)]
        for start, stop in itertools.pairwise(places):
            protocol.data_received(CONVERSATION[start:stop])

    wire = talk(numbers, say)
    assert answers(wire.written) == EXPECTED
    assert not wire.closed


@given(garbage=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_garbage_is_refused_or_waits_for_more(numbers: Any, garbage: bytes) -> None:
    wire = talk(numbers, lambda protocol, *_: protocol.data_received(garbage + b"\r\n\r\n"))
    assert all(status >= 400 for status, _ in answers(wire.written))


@pytest.mark.parametrize(("sent", "status"), [(b"\x16\x03\x01 no HTTP\r\n\r\n", 400), (b"x" * 70_000, 431)])
def test_what_is_no_request_is_counted(numbers: Any, sent: bytes, status: int) -> None:
    def refused() -> list[str]:
        return [line for line in numbers[0].text().splitlines() if f'route="other",status="{status}"' in line]

    before = refused()
    talk(numbers, lambda protocol, *_: protocol.data_received(sent))
    assert len(refused()) == 1
    assert refused() != before


def test_path_that_is_not_encoded_is_refused_with_the_cure(numbers: Any) -> None:
    sent = "GET /v1/items?q=café HTTP/1.1\r\n\r\n".encode()
    wire = talk(numbers, lambda protocol, *_: protocol.data_received(sent))
    assert b"the request is not HTTP/1.1: " in wire.written
    assert b"Cure: percent-encode path and query" in wire.written


@pytest.mark.parametrize(("size", "status"), [(60_000, 200), (70_000, 431)])
def test_large_header_is_refused_though_it_comes_in_one_piece(numbers: Any, size: int, status: int) -> None:
    sent = b"GET /echo HTTP/1.1\r\nX: " + b"x" * size + b"\r\n\r\n"
    wire = talk(numbers, lambda protocol, *_: protocol.data_received(sent))
    assert [told for told, _ in answers(wire.written)] == [status]


def test_answers_keep_the_order_of_the_requests(numbers: Any) -> None:
    async def turned(protocol: HttpProtocol, wire: Wire, api: Api) -> None:
        protocol.data_received(post(b"", "/later") + post(b"", "/later") + post(b"third"))
        api.waiting[1].set_result(b"second")
        await asyncio.sleep(0)
        assert wire.written == b""
        api.waiting[0].set_result(b"first")

    wire = talk(numbers, lambda protocol, wire, api, _: turned(protocol, wire, api))
    assert [body for _, body in answers(wire.written)] == [b"first", b"second", b"<third>"]


def test_no_more_is_read_while_many_wait(numbers: Any) -> None:
    async def flood(protocol: HttpProtocol, wire: Wire, api: Api) -> None:
        protocol.data_received(post(b"", "/later") * PIPELINED)
        assert not wire.reading
        api.waiting[0].set_result(b"")
        await asyncio.sleep(0)
        assert wire.reading

    talk(numbers, lambda protocol, wire, api, _: flood(protocol, wire, api))


def test_no_more_is_read_while_answers_are_not_taken(numbers: Any) -> None:
    def say(protocol: HttpProtocol, wire: Wire, *_: Any) -> None:
        protocol.pause_writing()
        assert not wire.reading
        protocol.resume_writing()
        assert wire.reading

    talk(numbers, say)


def test_what_nobody_waits_for_is_not_answered(numbers: Any) -> None:
    waiting: list[asyncio.Future[bytes]] = []

    def say(protocol: HttpProtocol, wire: Wire, api: Api, _: Shared) -> None:
        protocol.data_received(post(b"", "/later"))
        waiting.extend(api.waiting)

    talk(numbers, say)
    assert waiting[0].cancelled()


@pytest.mark.parametrize(
    ("sent", "closed"),
    [
        (post(b"a"), False),
        (post(b"a", more="Connection: close\r\n"), True),
        (post(b"a").replace(b"HTTP/1.1", b"HTTP/1.0"), True),
        (post(b"x" * 11), True),
    ],
    ids=["kept", "close", "HTTP/1.0", "too large"],
)
def test_connection_ends_when_it_must(numbers: Any, sent: bytes, closed: bool) -> None:
    wire = talk(numbers, lambda protocol, *_: protocol.data_received(sent), max_body_bytes=10)
    assert wire.closed is closed
    assert (b"connection: close" in wire.written) is closed


def test_body_is_asked_for_when_the_client_wants_to_be_asked(numbers: Any) -> None:
    head, _, _ = post(b"abc", more="Expect: 100-continue\r\n").partition(b"abc")

    def say(protocol: HttpProtocol, wire: Wire, *_: Any) -> None:
        protocol.data_received(head)
        assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.written = b""
        protocol.data_received(b"abc")

    assert answers(talk(numbers, say).written) == [(200, b"<abc>")]


@pytest.mark.parametrize("cut", [0, 20, -3, -1])
def test_request_for_another_protocol_is_answered_in_this_one(numbers: Any, cut: int) -> None:
    # As Java's client asks by default.
    sent = post(b"abc", more="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n")

    def say(protocol: HttpProtocol, *_: Any) -> None:
        protocol.data_received(sent[:cut])
        protocol.data_received(sent[cut:])

    wire = talk(numbers, say)
    assert answers(wire.written) == [(200, b"<abc>")]
    assert wire.closed


def test_only_client_is_known_by_asking_twice(numbers: Any) -> None:
    lone: list[bool] = []

    def say(protocol: HttpProtocol, wire: Wire, api: Api, shared: Shared) -> None:
        other = HttpProtocol(shared, server_state=ServerState())
        other.connection_made(Wire())
        for asking in (protocol, protocol, other, protocol, protocol):
            asking.data_received(post(b""))
        other.connection_lost(None)
        lone.extend(api.lone)

    talk(numbers, say)
    assert lone == [False, True, False, False, True]


@pytest.mark.parametrize("sent", [b"", b"POST /echo HTTP/1.1\r\n", post(b"abc")[:-1]], ids=["none", "header", "body"])
def test_client_that_takes_too_long_is_cut_off(numbers: Any, sent: bytes) -> None:
    async def dawdle(protocol: HttpProtocol) -> None:
        protocol.data_received(sent)
        await asyncio.sleep(0.15)

    wire = talk(numbers, lambda protocol, *_: dawdle(protocol), read_seconds=0.05)
    assert wire.closed
    assert wire.written.startswith(b"HTTP/1.1 408 ") is (b"\r\n\r\n" in sent)


def test_idle_connection_is_kept_longer_than_a_slow_header(numbers: Any) -> None:
    async def rest(protocol: HttpProtocol) -> None:
        protocol.data_received(post(b"abc"))
        await asyncio.sleep(0.15)

    assert not talk(numbers, lambda protocol, *_: rest(protocol), read_seconds=0.05, keep_alive_seconds=5).closed


def test_waiting_for_an_answer_is_not_idling(numbers: Any) -> None:
    async def rest(protocol: HttpProtocol) -> None:
        protocol.data_received(post(b"", "/later"))
        await asyncio.sleep(0.15)

    assert not talk(numbers, lambda protocol, *_: rest(protocol), read_seconds=0.05, keep_alive_seconds=1).closed


def test_connection_that_was_refused_is_not_read_for_a_while(numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REST_SECONDS", 0.05)

    async def come_back(protocol: HttpProtocol, wire: Wire) -> None:
        protocol.data_received(post(b"", "/full"))
        assert not wire.reading
        await asyncio.sleep(0.1)
        assert wire.reading
        protocol.data_received(post(b"again"))

    wire = talk(numbers, lambda protocol, wire, *_: come_back(protocol, wire))
    assert [status for status, _ in answers(wire.written)] == [503, 200]


@pytest.mark.parametrize("more", [b"", post(b"late")], ids=["nothing", "a request"])
def test_what_was_not_read_yet_is_answered_before_the_end(numbers: Any, more: bytes) -> None:
    async def end(protocol: HttpProtocol, wire: Wire) -> None:
        protocol.data_received(post(b"", "/full"))
        protocol.shutdown()
        assert wire.reading
        assert not wire.closed
        if more:
            protocol.data_received(more)
        await asyncio.sleep(0.05)
        assert wire.closed

    wire = talk(numbers, lambda protocol, wire, *_: end(protocol, wire))
    assert answers(wire.written)[1:] == ([(200, b"<late>")] if more else [])
