"""HTTP/1.1 on one connection: httptools parses, and answers are written without a task or a message in between.

uvicorn accepts the connections and ends them in order (`connections`, `shutdown`); what lies between is here.
"""

import asyncio
from collections import deque
from enum import Enum
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.server import ServerState

from pipeline.config_serve import ServeConfig
from serving.dispatch import App, Exchange
from serving.errors import HeaderError, LargeHeaderError, SlowBodyError
from serving.refusal import Headers, refusal

MAX_HEADER_BYTES = 65_536
LARGE_HEADER = f"a request's header, with its path, may have {MAX_HEADER_BYTES} bytes"
PIPELINED = 8
"""Requests of one connection that may wait for answers before no more are read."""
REST_SECONDS = 0.5
"""So long no more is read from a connection that was answered 503: half of what Retry-After asks for. Who asks again at
once has the next request wait in the kernel, which costs nothing, in place of being refused again and again."""
WAKE_SECONDS = 0.01
"""Rests that end within so long end together."""
STATUS_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
CURE = "Cure: percent-encode path and query; https is spoken with `serve.tls_certificate` only"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Reading(Enum):
    """What is to come next: at the beginning a request, then parts of it, then perhaps another."""

    FIRST, HEADER, BODY, NEXT = range(4)


class Shared:
    """What the connections of a worker share. asked_last: the one whose request came last."""

    def __init__(self, app: App, settings: ServeConfig) -> None:
        self.app, self.settings = app, settings
        self.asked_last: HttpProtocol | None = None
        self.tick = min(settings.read_seconds, settings.keep_alive_seconds or settings.read_seconds) / 4
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self._dated: Headers = []
        self._resting: deque[tuple[float, HttpProtocol]] = deque()

    def lone(self, protocol: "HttpProtocol") -> bool:
        """A request came on a connection: did the one before come there as well?"""
        again, self.asked_last = self.asked_last is protocol, protocol
        return again

    def rest(self, protocol: "HttpProtocol", loop: asyncio.AbstractEventLoop) -> None:
        """Have a connection end its rest in REST_SECONDS; many of them by one timer."""
        if not self._resting:
            loop.call_later(REST_SECONDS, self._wake, loop)
        self._resting.append((loop.time() + REST_SECONDS, protocol))

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._resting and self._resting[0][0] <= now + WAKE_SECONDS / 2:
            self._resting.popleft()[1].end_rest()
        if self._resting:
            loop.call_at(max(self._resting[0][0], now + WAKE_SECONDS), self._wake, loop)

    def head(self, status: int, content_type: bytes, default: Headers) -> bytes:
        """The beginning of an answer's header, up to its length; `default` is replaced when the date in it changes."""
        if default is not self._dated:
            self._dated = default
            self._heads.clear()
        made = self._heads.get((status, content_type))
        if made is None:
            headers = [*default, (b"content-type", content_type)]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            made = self._heads[status, content_type] = STATUS_LINES[HTTPStatus(status)] + lines + b"content-length: "
        return made


class HttpProtocol(asyncio.Protocol):
    """A connection. Answers go out in the order of the requests, each when it is there."""

    def __init__(
        self, shared: Shared, *, server_state: ServerState, _loop: asyncio.AbstractEventLoop | None = None, **_: Any
    ) -> None:
        self._shared, self._app, self._state = shared, shared.app, server_state
        self._connections: set[Any] = server_state.connections
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._reading, self._since = Reading.FIRST, self._loop.time()
        self._open: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._url, self._headers, self._header_bytes = b"", dict[bytes, bytes](), 0
        self._clogged = self._paused = self._ending = self._rests = False
        self._owed = 0

    # ---- asyncio

    def connection_made(self, transport: Any) -> None:  # uvloop's is none of asyncio's classes
        self._transport: asyncio.Transport = transport
        self._connections.add(self)
        self._timer = self._loop.call_later(self._shared.tick, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._timer.cancel()
        for exchange in self._open:
            self._app.abandon(exchange)
        self._open.clear()
        if self._shared.asked_last is self:
            self._shared.asked_last = None

    def data_received(self, data: bytes) -> None:
        if self._owed:
            self._take_owed(data)
            return
        large = len(data) > MAX_HEADER_BYTES and self._reading is not Reading.BODY
        if large and b"\r\n\r\n" not in data[:MAX_HEADER_BYTES]:
            self._refuse(LargeHeaderError(LARGE_HEADER))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._owed:
                self._take_owed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(HeaderError(f"the request is not HTTP/1.1: {error}. {CURE}"))
        if self._reading is Reading.HEADER:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(LargeHeaderError(LARGE_HEADER))
        elif len(self._open) >= PIPELINED:
            self._balance()

    def pause_writing(self) -> None:
        self._clogged = True
        self._balance()

    def resume_writing(self) -> None:
        self._clogged = False
        self._balance()

    # ---- httptools

    def on_message_begin(self) -> None:
        self._reading, self._since = Reading.HEADER, self._loop.time()
        self._url, self._headers, self._header_bytes = b"", {}, 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._reading, self._since = Reading.BODY, self._loop.time()
        path, query = _split(self._url)
        exchange = Exchange(self._parser.get_method().decode(), path, query, self._headers, self._send)
        exchange.keep_alive = self._parser.should_keep_alive()
        exchange.lone = self._shared.lone(self) and not self._open
        self._current = exchange
        self._open.append(exchange)
        self._app.begin(exchange)
        if exchange.content is None and self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(CONTINUE)
        if self._parser.should_upgrade():
            # Answered as if it had not asked for another protocol; but the parser is done, and leaves the body to us.
            length = self._headers.get(b"content-length", b"")
            self._ending, self._owed = True, int(length) if length.isdigit() else 0

    def on_body(self, body: bytes) -> None:
        exchange = self._current
        if exchange is not None and exchange.content is None:
            self._app.take_body(exchange, body)

    def on_message_complete(self) -> None:
        if self._owed:
            return
        self._reading, exchange = Reading.NEXT, self._current
        if exchange is not None and exchange.content is None:
            self._app.finish(exchange)

    def _take_owed(self, data: bytes) -> None:
        """A part of the body that the parser does not read."""
        part = data[: self._owed]
        self._owed -= len(part)
        self.on_body(part)
        self.on_message_complete()

    # ---- uvicorn

    def shutdown(self) -> None:
        """Take no further requests; end when those that came are answered, those that were not read yet too."""
        self._ending = True
        if self._rests:
            self.end_rest()
            self._loop.call_later(WAKE_SECONDS, self.shutdown)
        elif not self._open:
            self._transport.close()

    # ---- answers

    def end_rest(self) -> None:
        """Read on."""
        self._rests = False
        self._balance()

    def _send(self) -> None:
        """Write the answers that are there, up to the first that is not."""
        while self._open and self._open[0].content is not None:
            exchange = self._open.popleft()
            if self._transport.is_closing():
                return
            ends = exchange.hang_up or not exchange.keep_alive or (self._ending and not self._open)
            self._write(exchange, ends or not self._shared.settings.keep_alive_seconds)
            if exchange.status == HTTPStatus.SERVICE_UNAVAILABLE and not self._rests and not self._ending:
                self._rests = True
                self._shared.rest(self, self._loop)
                self._balance()
        self._since = self._loop.time()
        if self._paused:
            self._balance()

    def _write(self, exchange: Exchange, ends: bool) -> None:
        content = exchange.content or b""
        head = self._shared.head(exchange.status, exchange.content_type, self._state.default_headers)
        more = b"".join(b"%s: %s\r\n" % header for header in exchange.more)
        connection = b"connection: close\r\n" if ends else b""
        head = b"%s%d\r\n%s%s\r\n" % (head, len(content), more, connection)
        told = exchange.method == "HEAD" or exchange.status == HTTPStatus.NOT_MODIFIED  # about it, without it
        self._transport.writelines((head,) if told else (head, content))
        if ends:
            self._transport.close()

    def _refuse(self, error: HeaderError) -> None:
        """Answer a request that never became one, and end the connection."""
        if self._transport.is_closing():
            return
        exchange = Exchange("GET", "", b"", {}, self._send)
        exchange.status, exchange.content, exchange.more = refusal(error)
        self._app.count_unread(exchange.status)
        self._write(exchange, ends=True)

    def _balance(self) -> None:
        """Read on only as far as answers are taken, and not at once after a 503."""
        pause = self._clogged or self._rests or len(self._open) >= PIPELINED
        if pause is not self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _look(self) -> None:
        """From time to time: has the client taken too long?"""
        self._timer = self._loop.call_later(self._shared.tick, self._look)
        settings = self._shared.settings
        idle = self._reading is Reading.NEXT
        limit = settings.keep_alive_seconds if idle else settings.read_seconds
        if self._loop.time() - self._since < limit or (idle and self._open):
            return
        exchange = self._current
        if self._reading is Reading.BODY and exchange is not None and exchange.content is None:
            error = SlowBodyError(f"the body did not come within {settings.read_seconds:g} s")
            self._app.refuse(exchange, error, hang_up=True)
        else:
            self._transport.close()


def _split(url: bytes) -> tuple[str, bytes]:
    """A request's target -> its path as it was sent, and its query."""
    if not url.startswith(b"/") or b"#" in url:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1"), b""
        return (parsed.path or b"/").decode("latin-1"), parsed.query or b""
    path, _, query = url.partition(b"?")
    return path.decode("latin-1"), query
