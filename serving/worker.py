"""One worker process: an event loop that answers requests from one core."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from pipeline.config_serve import ServeConfig
from pipeline.errors import TwoTowerError
from pipeline.storage import locate
from serving import api, browse_api, openapi
from serving.choice import Choice
from serving.dispatch import App
from serving.events_store import EventsStore
from serving.http_protocol import HttpProtocol, Shared
from serving.metrics import Metrics
from serving.pages import pages
from serving.protection import Gate, Key
from serving.reload import Reloader
from serving.shared_numbers import SharedNumbers
from serving.stores import open_store

BUCKET = 2
"""Numbers of a key's bucket."""


@dataclass(frozen=True)
class Task:
    """What a worker is told. counts, buckets: files of shared numbers; address: where to listen.

    checker: where the process listens that checks bundles. keys: as they were when the server started, a bucket each.
    """

    bundle: str
    settings: ServeConfig
    number: int
    counts: Path
    buckets: Path
    address: tuple[str, int]
    checker: str
    keys: list[Key]


def run(task: Task, ready: Connection) -> None:
    """Answer requests until told to stop; says over `ready` that it does (None), or why it cannot (the error)."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        server = _Server(task)
    except TwoTowerError as error:
        ready.send(error)
        return
    server.told_ready = ready
    with listen(*task.address) as listener:
        server.run(sockets=[listener])


def listen(host: str, port: int, shared: bool = True) -> socket.socket:
    """A socket bound to an address. shared: with other workers; the kernel deals connections out among them.

    Raises OSError.
    """
    # The protocol must be named: asyncio turns Nagle's delay of 40 ms off only for sockets that say they are TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def route_names() -> list[str]:
    """Of all operations, in the order in which they are counted."""
    names = [*vars(api.Api), *vars(browse_api.BrowseApi)]
    return [name for name in names if not name.startswith("_")]


class _Server(uvicorn.Server):
    """uvicorn over the application, with the bundle looked after beside it."""

    told_ready: Connection

    def __init__(self, task: Task) -> None:
        settings, path = task.settings, locate(task.bundle)
        names = route_names()
        self._metrics = Metrics(
            SharedNumbers(task.counts, settings.workers, Metrics.columns(names)), task.number, names
        )
        gate = Gate(task.keys, SharedNumbers(task.buckets, max(1, len(task.keys)), BUCKET))
        self._store: EventsStore | None = open_store(settings.events, path)
        served, *compared = (
            Reloader(locate(each), self._metrics, task.checker) for each in (path, settings.compare) if each is not None
        )
        choice = Choice(served, *compared)
        self._reloaders, self._poll_seconds = choice.reloaders, settings.poll_seconds
        self._looking: set[asyncio.Task[None]] = set()
        operations = api.Api(settings, choice, self._store, self._metrics, gate)
        routes = api.routes(operations, self._store is not None)
        if settings.explorer:
            routes += browse_api.routes(browse_api.BrowseApi(choice))
        shown = pages(openapi.document(routes, bool(task.keys)), settings.explorer)
        super().__init__(_configuration(App(routes, shown, settings, self._metrics, gate), settings))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._start_look)
        self._polling = [loop.create_task(reloader.poll(self._poll_seconds)) for reloader in self._reloaders]
        self._metrics.set("workers", 1)
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again would hold up requests by tens of milliseconds
        self.told_ready.send(None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for polling in self._polling:
            polling.cancel()
        await super().shutdown(sockets)
        if self._store is not None:
            await self._store.close()
        self._metrics.set("workers", 0)

    def _start_look(self) -> None:
        """The event loop holds no task by itself: one that only it knows may be collected while it waits."""
        looking = asyncio.get_running_loop().create_task(self._look())
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)

    async def _look(self) -> None:
        for reloader in self._reloaders:
            await reloader.check(again=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def _configuration(app: App, settings: ServeConfig) -> uvicorn.Config:
    """uvicorn keeps the sockets and ends in order; what it would do between a connection and `app` is ours."""
    protocol: Any = partial(HttpProtocol, Shared(app, settings))
    return uvicorn.Config(
        app=_no_asgi,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


async def _no_asgi(scope: object, receive: object, send: object) -> None:
    """uvicorn wants an ASGI application; HttpProtocol never calls it."""
