"""From a request's header and body to the bytes of its answer: one dictionary look-up, and no framework."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import orjson

from pipeline.config_serve import ServeConfig
from serving.errors import MethodError, NoRouteError, OverloadedError, TooLargeError
from serving.metrics import OTHER, Metrics
from serving.pages import Page
from serving.protection import Caller, Gate
from serving.refusal import refusal
from serving.route import Request, Route, Router


class Exchange:
    """A request, as far as it has come, and its answer once there is one.

    method, path (as sent), query, headers (lower-case names): of the request. lone: see Request. answered: called when
    the answer is there; `content` is its body, None until then. more: its headers beside type and length.
    hang_up: the connection ends with the answer, for the rest of the body is not read.
    """

    __slots__ = (
        *("method", "path", "query", "headers", "body", "lone", "keep_alive"),
        *("route", "path_id", "name", "caller", "started", "pending"),
        *("answered", "status", "content_type", "content", "more", "hang_up"),
    )

    def __init__(
        self, method: str, path: str, query: bytes, headers: dict[bytes, bytes], answered: Callable[[], None]
    ) -> None:
        self.method, self.path, self.query, self.headers, self.answered = method, path, query, headers, answered
        self.body, self.lone, self.keep_alive = b"", False, True
        self.route: Route | None = None
        self.path_id, self.name, self.started = "", OTHER, 0.0
        self.caller: Caller | None = None
        self.pending: asyncio.Future[bytes] | None = None
        self.status, self.content_type = 200, b"application/json"
        self.content: bytes | None = None
        self.more: Sequence[tuple[bytes, bytes]] = ()
        self.hang_up = False


class App:
    """Finds the route, checks key, rate and size, runs the handler, and counts what it answered."""

    def __init__(
        self,
        routes: list[Route],
        pages: dict[str, Page],
        limits: ServeConfig,
        metrics: Metrics,
        gate: Gate,
    ) -> None:
        """pages: by path, open to everybody."""
        self._router, self._pages = Router(routes), pages
        self._limits, self._metrics, self._gate = limits, metrics, gate
        self._log: list[bytes] = []

    def begin(self, exchange: Exchange) -> None:
        """The header is there. Most that are refused get their answer here, before a body is read."""
        exchange.started = time.perf_counter()
        self._metrics.add("in_flight")
        try:
            self._admit(exchange)
        except Exception as error:
            self.refuse(exchange, error)

    def take_body(self, exchange: Exchange, part: bytes) -> None:
        """A part of the body is there; whoever sends too much is told, and cut off."""
        exchange.body = exchange.body + part if exchange.body else part
        if len(exchange.body) > self._limits.max_body_bytes:
            self.refuse(exchange, self._too_large(), hang_up=True)

    def finish(self, exchange: Exchange) -> None:
        """The whole request is there: answer it, now or later."""
        route = exchange.route
        assert route is not None
        says_json = b"json" in exchange.headers.get(b"content-type", b"").lower()
        try:
            answer = route.handle(
                Request(
                    route, exchange.path_id, exchange.query, exchange.body, says_json, exchange.caller, exchange.lone
                )
            )
        except Exception as error:
            self.refuse(exchange, error)
            return
        if isinstance(answer, bytes):
            self._accept(exchange, answer)
            return
        exchange.pending = asyncio.ensure_future(answer)
        exchange.pending.add_done_callback(lambda done: self._later(exchange, done))

    def refuse(self, exchange: Exchange, error: BaseException, hang_up: bool = False) -> None:
        """Answer with an error. hang_up: and end the connection."""
        exchange.content_type, exchange.hang_up = b"application/json", hang_up
        exchange.status, content, exchange.more = refusal(error)
        self._close(exchange, content)

    def count_unread(self, status: int) -> None:
        """Count what was no request, and was refused with this status."""
        self._metrics.answered(OTHER, status, 0.0)

    def abandon(self, exchange: Exchange) -> None:
        """The client has gone. What it waited for in a queue is dropped; what was begun is finished."""
        if exchange.content is not None:
            return
        if exchange.pending is None:
            self._metrics.add("in_flight", -1)
        elif not isinstance(exchange.pending, asyncio.Task):
            exchange.pending.cancel()

    def _admit(self, exchange: Exchange) -> None:
        methods, exchange.path_id = self._router.find(exchange.path)
        method = "GET" if exchange.method == "HEAD" else exchange.method
        route = methods.get(method)
        if route is None:
            self._page(exchange, method, methods)
            return
        exchange.name, exchange.route = route.name, route
        if route.full is not None and route.full():
            # Under overload most requests end here, so that as little as can be is done for them.
            exchange.status, exchange.more = OVERLOADED.status, RETRY
            self._close(exchange, FULL)
            return
        if not route.open:
            caller = exchange.caller = self._gate.enter(exchange.headers.get(b"authorization", b""))
            if route.admin:
                self._gate.admit_admin(caller)
            self._gate.take(caller)
        if route.body is not None:
            declared = exchange.headers.get(b"content-length", b"0")
            if not declared.isdigit() or len(declared) > 18 or int(declared) > self._limits.max_body_bytes:
                self.refuse(exchange, self._too_large(), hang_up=True)

    def _page(self, exchange: Exchange, method: str, methods: dict[str, Route]) -> None:
        page = self._pages.get(exchange.path)
        allowed = ", ".join(methods) if methods else "GET" if page else ""
        if page is None or method != "GET":
            if allowed:
                raise MethodError(f"{exchange.path} takes {allowed}, not {method}", allowed)
            raise NoRouteError(f"there is nothing at {exchange.path}. GET /openapi.json tells what there is")
        exchange.content_type, exchange.more = page.content_type, page.headers
        if exchange.headers.get(b"if-none-match") == page.etag:
            exchange.status = HTTPStatus.NOT_MODIFIED
        self._close(exchange, page.content)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body may have {self._limits.max_body_bytes} bytes (`serve.max_body_bytes`)")

    def _later(self, exchange: Exchange, done: "asyncio.Future[bytes]") -> None:
        if done.cancelled():  # its client has gone
            self._metrics.add("in_flight", -1)
            return
        error = done.exception()
        if error is not None:
            self.refuse(exchange, error)
        else:
            self._accept(exchange, done.result())

    def _accept(self, exchange: Exchange, content: bytes) -> None:
        assert exchange.route is not None
        exchange.status, exchange.content_type = exchange.route.status, exchange.route.content_type
        self._close(exchange, content)

    def _close(self, exchange: Exchange, content: bytes) -> None:
        """The answer is there: have it sent, and count it."""
        exchange.content = content
        exchange.answered()
        seconds = time.perf_counter() - exchange.started
        self._metrics.add("in_flight", -1)
        self._metrics.answered(exchange.name, exchange.status, seconds)
        if self._limits.access_log:
            self._note(exchange, seconds, len(content))

    def _note(self, exchange: Exchange, seconds: float, size: int) -> None:
        """A line of the access log: which operation, by whose key; not about whom, nor from where."""
        line = {
            "time": round(time.time(), 3),
            "route": exchange.name,
            "status": exchange.status,
            "ms": round(1000 * seconds, 2),
            "bytes": size,
            "key": exchange.caller.key.name if exchange.caller else None,
        }
        if not self._log:
            asyncio.get_running_loop().call_later(0.2, self._flush)
        self._log.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _flush(self) -> None:
        lines, self._log = self._log, []
        sys.stderr.write(b"".join(lines).decode())
        sys.stderr.flush()


OVERLOADED = OverloadedError("the queue is full. Cure: ask again later", 1)
_, FULL, RETRY = refusal(OVERLOADED)
