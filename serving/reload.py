"""Takes a newly published bundle into service while requests are answered from the one before."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline import manifest
from pipeline.errors import StorageError, TwoTowerError
from pipeline.storage import Location
from serving.bundle import Bundle
from serving.check import check
from serving.metrics import Metrics
from serving.served import Served
from serving.turns import REST_SECONDS, in_turns

LOG = logging.getLogger("serving")
SWITCH_SECONDS = 0.0005
"""Python lets a thread run this long before another may: short, since requests wait while a bundle is being loaded."""
RETIRE_SECONDS = 0.5
"""After this the requests that began with the old bundle have their answers."""


class Reloader:
    """Holds the served bundle of one worker.

    A swap assigns one reference, so each request sees one bundle from its beginning to its end. When the new bundle
    cannot be opened, or does not answer its golden queries, the old one stays, and the failure is logged, counted and
    told by `last`.
    """

    def __init__(self, path: Location, metrics: Metrics, checker: str) -> None:
        """Open the published bundle. checker: where `serving.check.serve` listens. Raises ArtifactError."""
        self._path, self._metrics, self._checker = path, metrics, checker
        # glibc gives each thread a heap of its own. Two threads load bundles in turn, so that each finds an empty heap:
        # in the holes of another a bundle, or what requests need, would keep pages half used.
        self._holding, self._empty = (ThreadPoolExecutor(1, "loader") for _ in range(2))
        self.served = Served.open(path, self._holding)
        self.last: dict[str, Any] = {"state": "none", "run": None, "error": None}
        self._loading = asyncio.Lock()

    async def poll(self, seconds: float) -> None:
        """Look for another bundle, for ever. The worker ends when whoever started it has."""
        parent, due = os.getppid(), time.monotonic() + seconds
        while os.getppid() == parent:
            self._metrics.set("resident_bytes", resident_bytes())
            await asyncio.sleep(min(seconds, 1.0) or 1.0)
            if seconds and time.monotonic() >= due:
                await self.check()
                due = time.monotonic() + seconds
        os.kill(os.getpid(), signal.SIGTERM)

    async def check(self, again: bool = False) -> None:
        """Serve what is published now; again: even if it was refused before."""
        async with self._loading:
            try:
                run = await asyncio.to_thread(manifest.current_run, self._path)
            except StorageError as error:
                LOG.error("cannot look for a new bundle: %s", error)
                return
            refused = self.last["run"] if self.last["state"] == "failed" else None
            if run is None or run == self.served.run or (run == refused and not again):
                return
            await self._swap(run)

    async def _swap(self, run: str) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            checked = await check(self._path, run, self._checker)
            served = Served.of(await in_turns(partial(Bundle.open, self._path, True), self._empty))
            for _ in served.warm(self.served):
                await asyncio.sleep(REST_SECONDS)
        except ConnectionError as error:
            LOG.error("kept bundle %s: %s cannot be checked now: %s", self.served.run, run, error)
            return
        except Exception as error:  # whatever is wrong with a bundle must not end the service of the other
            self._metrics.add("reload_failures")
            message = str(error) if isinstance(error, TwoTowerError) else f"{type(error).__name__}: {error}"
            self.last = {"state": "failed", "run": run, "error": message}
            LOG.error("kept bundle %s: %s cannot be served: %s", self.served.run, run, message)
        else:
            if served.run != checked:  # published since
                await self._swap(served.run)
                return
            asyncio.get_running_loop().call_later(RETIRE_SECONDS, self._retire, [self.served])
            self.served = served
            self._holding, self._empty = self._empty, self._holding
            self._metrics.add("reloads")
            self.last = {"state": "done", "run": self.served.run, "error": None}
            LOG.warning("now serving bundle %s", self.served.run)
        finally:
            sys.setswitchinterval(interval)

    def _retire(self, old: list[Served]) -> None:
        """Let the old bundle go, in a thread: unmapping a large one takes a while."""
        asyncio.get_running_loop().run_in_executor(None, _give_back, old)

    def tell_the_others(self) -> None:
        """Have the other workers look as well: who started us passes this on to all."""
        os.kill(os.getppid(), signal.SIGHUP)


def _give_back(old: list[Served]) -> None:
    """Have the memory of what was served given back to the system."""
    old.clear()
    gc.collect(1)
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError):  # glibc keeps freed memory otherwise
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Memory of this process, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
