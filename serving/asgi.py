"""The API as an ASGI application, without a framework: one dictionary look-up between a request and its handler."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from pipeline.config_serve import ServeConfig
from pipeline.errors import RequestError
from serving.api import clean
from serving.errors import (
    HttpError,
    MethodError,
    NoRouteError,
    NotFoundError,
    NotJsonError,
    OverloadedError,
    SlowBodyError,
    TooLargeError,
    UnauthorizedError,
)
from serving.metrics import OTHER, Metrics
from serving.pages import Page
from serving.protection import Caller, Gate
from serving.route import Request, Route, Router

LOG = logging.getLogger("serving")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
MAX_TOLD = 10
"""Problems of one request that are told."""


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, not {scope['type']}")
        started = time.perf_counter()
        self._metrics.add("in_flight")
        exchange = _Exchange()
        try:
            try:
                body = await self._answer(scope, receive, exchange)
                status, headers = exchange.status, [(b"content-type", exchange.content_type), *exchange.more]
            except Exception as error:
                status, body, headers = refusal(error)
            if exchange.hang_up:
                headers.append((b"connection", b"close"))
            if status != 304:
                headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        finally:
            self._metrics.add("in_flight", -1)
        seconds = time.perf_counter() - started
        self._metrics.answered(exchange.name, status, seconds)
        if self._limits.access_log:
            self._note(exchange, status, seconds, len(body))

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> bytes:
        path, method = scope["raw_path"].decode("latin-1"), scope["method"]
        method = "GET" if method == "HEAD" else method
        methods, path_id = self._router.find(path)
        route = methods.get(method)
        if route is None:
            return self._page(scope, method, methods, exchange)
        exchange.name = route.name
        if route.full is not None and route.full():
            # Under overload most requests end here, so that as little as can be is done for them.
            exchange.status, exchange.more = OVERLOADED.status, RETRY
            return FULL
        headers = dict(scope["headers"])
        caller = None
        if not route.open:
            caller = exchange.caller = self._gate.enter(headers.get(b"authorization", b""))
            if route.admin:
                self._gate.admit_admin(caller)
            self._gate.take(caller)
        body = b""
        if route.body is not None:
            body = await self._body(receive, headers, exchange)
        says_json = b"json" in headers.get(b"content-type", b"").lower()
        answer = await route.handle(Request(route, path_id, scope["query_string"], body, says_json, caller))
        exchange.status, exchange.content_type = route.status, route.content_type
        return answer

    def _page(self, scope: Scope, method: str, methods: dict[str, Route], exchange: "_Exchange") -> bytes:
        path = scope["raw_path"].decode("latin-1")
        page = self._pages.get(path)
        allowed = ", ".join(methods) if methods else "GET" if page else ""
        if page is None or method != "GET":
            if allowed:
                raise MethodError(f"{path} takes {allowed}, not {method}", allowed)
            raise NoRouteError(f"there is nothing at {path}. GET /openapi.json tells what there is")
        exchange.content_type, exchange.more = page.content_type, page.headers
        if dict(scope["headers"]).get(b"if-none-match") == page.etag:
            exchange.status = 304
            return b""
        return page.content

    async def _body(self, receive: Receive, headers: dict[bytes, bytes], exchange: "_Exchange") -> bytes:
        """The whole body, as long as it comes in time and is not too large; else the connection is closed after."""
        limit = self._limits.max_body_bytes
        too_large = TooLargeError(f"the body may have {limit} bytes (`serve.max_body_bytes`)")
        declared = headers.get(b"content-length", b"0")
        exchange.hang_up = True
        if not declared.isdigit() or len(declared) > 18 or int(declared) > limit:
            raise too_large
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            try:
                async with asyncio.timeout(self._limits.read_seconds):
                    while message.get("more_body"):
                        message = await receive()
                        body += message.get("body", b"")
                        if len(body) > limit:
                            raise too_large
            except TimeoutError:
                raise SlowBodyError(f"the body did not come within {self._limits.read_seconds:g} s") from None
        if len(body) > limit:
            raise too_large
        exchange.hang_up = False
        return body

    def _note(self, exchange: "_Exchange", status: int, seconds: float, size: int) -> None:
        """A line of the access log: which operation, by whose key; not about whom, nor from where."""
        line = {
            "time": round(time.time(), 3),
            "route": exchange.name,
            "status": status,
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


class _Exchange:
    """What is known so far of a request being answered.

    hang_up: the rest of its body will not be read. more: further headers of the answer.
    """

    __slots__ = ("caller", "content_type", "hang_up", "more", "name", "status")

    def __init__(self) -> None:
        self.name, self.status, self.content_type = OTHER, 200, b"application/json"
        self.caller: Caller | None = None
        self.more: Sequence[tuple[bytes, bytes]] = ()
        self.hang_up = False


OVERLOADED = OverloadedError("the queue is full. Cure: ask again later", 1)


def refusal(error: Exception) -> tuple[int, bytes, Headers]:
    """What is answered for an error: status, body, headers."""
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, ValidationError):
        error = _explained(error)
    if isinstance(error, HttpError):
        status, code, message = error.status, error.code, str(error)
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if isinstance(error, MethodError):
            headers.append((b"allow", error.allowed.encode()))
        if isinstance(error, UnauthorizedError):
            headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, NotFoundError):
        status, code, message = 404, "not_found", str(error)
    elif isinstance(error, RequestError):
        status, code, message = 422, "invalid_request", str(error)
    else:
        LOG.error("a request failed", exc_info=error)
        status, code, message = 500, "internal", "the server failed; its log tells more"
    return status, orjson.dumps({"error": {"code": code, "message": clean(message)}}), headers


_, FULL, _headers = refusal(OVERLOADED)
RETRY = _headers[1:]


def _explained(error: ValidationError) -> RequestError:
    """pydantic's list of problems in words."""
    problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid" and not problems[0]["loc"]:
        return NotJsonError(f"the body is not JSON: {problems[0]['ctx']['error']}")
    return RequestError("; ".join(_told(problems[:MAX_TOLD])))


def _told(problems: Iterable[Any]) -> Iterable[str]:
    for problem in problems:
        where = ".".join(str(part)[:100] for part in problem["loc"])
        yield f"{where}: {problem['msg']}" if where else problem["msg"]
