"""The HTTP server: a parent that binds the address, starts the workers, and keeps so many of them alive."""

import multiprocessing
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from pipeline.config_serve import ServeConfig
from pipeline.errors import ConfigError, TwoTowerError
from pipeline.storage import Location
from serving import worker
from serving.bundle import open_files
from serving.check import Checker
from serving.interrupts import held_back
from serving.metrics import Metrics
from serving.protection import read_keys
from serving.shared_numbers import SharedNumbers

TICK = 0.2
RESTART_SECONDS = 1.0
"""Between two starts of one worker, so that one that cannot live does not take the machine with it."""


def serve(bundle_path: Location | str, settings: ServeConfig | None = None) -> None:
    """Serve a bundle until interrupted or terminated; prints the URL once all workers accept requests.

    SIGHUP has the workers look for a new bundle. Port 0 takes a free one. Raises ArtifactError when the bundle cannot
    be served, ConfigError when the address, the keys or the store of events cannot be used.
    """
    settings = settings or ServeConfig()
    open_files(bundle_path)  # what is wrong is said once, not by each worker
    if settings.compare is not None:
        open_files(settings.compare)
    keys = read_keys(settings.keys)
    _check_tls(settings)
    with _address(settings) as address, _files(settings, len(keys)) as (counts, buckets), Checker() as checker:
        tasks = [
            worker.Task(str(bundle_path), settings, n, counts, buckets, address, checker.address, keys)
            for n in range(settings.workers)
        ]
        _Supervisor(tasks, settings.shutdown_seconds, checker).run(_greeting(bundle_path, settings, address[1]))


def _greeting(bundle_path: Location | str, settings: ServeConfig, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.tls_certificate else "http"
    url = f"{scheme}://{host}:{port}"
    beside = f", beside {settings.compare}" if settings.compare else ""
    page = f"\nExplore it in a browser at {url}/{beside}" if settings.explorer else ""
    return f"Serving {bundle_path} at {url} (docs at /docs). Stop with Ctrl-C.{page}"


def _check_tls(settings: ServeConfig) -> None:
    for name in ("tls_certificate", "tls_key"):
        path = getattr(settings, name)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"`serve.{name}`: there is no file {path}")
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, lambda: "")
    except OSError as error:  # which SSLError is
        raise ConfigError(
            f"cannot use `serve.tls_certificate` {settings.tls_certificate} with `serve.tls_key` {settings.tls_key}: "
            f"{error.strerror}. Cure: PEM files of a certificate and its key, which no password guards"
        ) from None


@contextmanager
def _address(settings: ServeConfig) -> Iterator[tuple[str, int]]:
    """Hold the address for the workers, who bind it too."""
    try:
        # The workers' sockets agree to share; a server that runs here already does not agree to share with this one.
        with worker.listen(settings.host, settings.port, shared=False) as probe:
            port = probe.getsockname()[1]
        holder = worker.listen(settings.host, port)
    except OSError as error:
        raise ConfigError(
            f"cannot serve at {settings.host}:{settings.port}: {error.strerror}. "
            "Cure: another `serve.port`, or `serve.host`"
        ) from None
    with holder:
        yield settings.host, port


@contextmanager
def _files(settings: ServeConfig, keys: int) -> Iterator[tuple[Path, Path]]:
    """The files of shared numbers: what the workers count, and the buckets of the keys."""
    counts = SharedNumbers.make(settings.workers, Metrics.columns(worker.route_names()))
    buckets = SharedNumbers.make(max(1, keys), worker.BUCKET)
    try:
        yield counts, buckets
    finally:
        counts.unlink()
        buckets.unlink()


@dataclass
class _Worker:
    """A worker's process, from its start on. ready: where it tells that it answers, until it did."""

    task: worker.Task
    process: BaseProcess
    ready: Connection | None
    started: float = field(default_factory=time.monotonic)


class _Supervisor:
    """Starts workers, passes signals on, and starts those anew that die."""

    def __init__(self, tasks: list[worker.Task], shutdown_seconds: float, checker: Checker) -> None:
        self._checker = checker
        self._context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
        self._tasks, self._shutdown_seconds = tasks, shutdown_seconds
        self._workers: list[_Worker] = []
        self._stop = False

    def run(self, greeting: str) -> None:
        """Until SIGINT or SIGTERM. Raises the error of a worker that cannot start the first time."""
        kept = {
            number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            self._workers = [self._start(task) for task in self._tasks]
            self._wait_until_ready()
            if not self._stop:
                print(greeting, flush=True)
            while not self._stop:
                wait([each.process.sentinel for each in self._workers], TICK)
                self._revive()
                self._checker.revive()
        finally:
            self._end()
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGHUP:
            self._stop = True
            return
        for each in self._workers:
            _tell(each.process, signal.SIGHUP)

    def _start(self, task: worker.Task) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=worker.run, args=(task, theirs), daemon=True)
        with held_back():
            process.start()
        theirs.close()
        return _Worker(task, process, ours)

    def _wait_until_ready(self) -> None:
        while not self._stop and any(each.ready for each in self._workers):
            wait([each.ready for each in self._workers if each.ready], TICK)
            for each in self._workers:
                self._hear(each)

    def _hear(self, each: _Worker) -> None:
        """Take what a worker says of its start. Raises its error."""
        if each.ready is None or not each.ready.poll():
            return
        try:
            error = each.ready.recv()
        except EOFError:
            each.process.join()
            error = TwoTowerError(f"a worker ended with {each.process.exitcode} before it could serve")
        each.ready = None
        if error is not None:
            raise error

    def _revive(self) -> None:
        for place, each in enumerate(self._workers):
            if each.process.is_alive() or time.monotonic() - each.started < RESTART_SECONDS or self._stop:
                continue
            print(f"worker {place} ended with {each.process.exitcode}; starting another", file=sys.stderr, flush=True)
            self._workers[place] = self._start(each.task)

    def _end(self) -> None:
        self._checker.stop()  # first, so that no worker waits for it
        for each in self._workers:
            _tell(each.process, signal.SIGTERM)
        until = time.monotonic() + self._shutdown_seconds + 5
        for each in self._workers:
            each.process.join(max(0.1, until - time.monotonic()))
            if each.process.is_alive():
                each.process.kill()


def _tell(process: BaseProcess, number: signal.Signals) -> None:
    if process.is_alive() and process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
