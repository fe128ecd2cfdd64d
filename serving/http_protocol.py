"""uvicorn's HTTP protocol with the two limits it lacks: how long and how large a request's header may be."""

from asyncio.events import TimerHandle
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEADER_BYTES = 65_536


def guarded(read_seconds: float) -> type[HttpToolsProtocol]:
    """The protocol, cutting off clients whose header takes longer than this."""
    return type("Guarded", (_Guarded,), {"read_seconds": read_seconds})


class _Guarded(HttpToolsProtocol):
    read_seconds: float
    _timer: TimerHandle | None = None
    _in_header = True
    """Also before the first byte: whoever connects must ask for something."""
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.read_seconds, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_header:
            if self._timer is not None:
                self._stop_timer()
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "too_large", f"a request's header may have {MAX_HEADER_BYTES} bytes")
        elif self._timer is None:
            self._timer = self.loop.call_later(self.read_seconds, self._cut_off)

    def on_message_begin(self) -> None:
        self._in_header, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_header = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "not_http", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer like every other refusal, and close the connection."""
        body = orjson.dumps({"error": {"code": code, "message": message}})
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut_off(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
