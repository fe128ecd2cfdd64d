"""Child processes that die by SIGKILL at a chosen step of what they store.

Dying before step n + 1 is dying after step n: the steps 1, 2, ... until a run completes are all the moments there are
between two changes of a disk or a store.
"""

import builtins
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3fs import S3FileSystem
from tqdm import tqdm

APPEARS = frozenset({"rename", "request"})
"""Something new becomes visible: a file by its rename, an object by its request."""
EVERY = APPEARS | {"open", "fsync", "mkdir", "remove", "rmdir", "flock"}
"""All that changes a disk or a store: also a file opened for writing, a lock taken, ..."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Executioner:
    """Children are forked off a process that has imported what they need, and has neither threads nor connections."""

    pool: ProcessPoolExecutor

    def dies(
        self, step: int, kinds: frozenset[str], folder: Path, work: Callable[..., object], *arguments: object
    ) -> bool:
        """Run `work` in a child that dies at a step, counted from 1; False when it completes before.

        kinds: which steps count, of those in this local folder and those of object stores.
        """
        return self.pool.submit(_dies, step, kinds, str(folder), dict(os.environ), work, arguments).result()


@contextmanager
def executioner() -> Iterator[Executioner]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield Executioner(pool)


def _dies(
    step: int, kinds: frozenset[str], folder: str, environment: dict[str, str], work: Callable, arguments: tuple
) -> bool:
    child = os.fork()
    if not child:
        status = 1
        try:
            os.environ.update(environment)
            tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed process leaks
            _watch(_Counter(step, kinds), folder)
            work(*arguments)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    assert code in (0, -signal.SIGKILL), f"the child failed with {code}; its traceback is on stderr"
    return code != 0


class _Counter:
    def __init__(self, steps: int, kinds: frozenset[str]) -> None:
        self.left, self.kinds, self.lock = steps, kinds, threading.Lock()

    def step(self, kind: str) -> None:
        with self.lock:
            self.left -= kind in self.kinds
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _watch(counter: _Counter, folder: str) -> None:
    """Count what Python reports to audit hooks; it reports neither fsync nor what is sent to a store."""
    fsync, call, io_open = os.fsync, S3FileSystem._call_s3, io.open

    def counted_fsync(descriptor: int) -> None:
        counter.step("fsync")
        fsync(descriptor)

    def counted_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream = io_open(file, mode, *args, **kwargs)
        if set(mode) & set("wax+"):
            counter.step("open")  # once more: the file is there, and empty
        return stream

    async def counted_call(self: S3FileSystem, method: str, *args: Any, **kwargs: Any) -> Any:
        if not method.startswith(("get", "head", "list")):
            counter.step("request")
        return await call(self, method, *args, **kwargs)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        kind = event.rpartition(".")[2]
        if kind not in EVERY or (kind == "open" and not (event == "open" and args[2] & WRITES)):
            return
        if kind == "open" and isinstance(args[0], int):  # a descriptor: its file was counted when that was opened
            return
        # A path relative to a folder's descriptor is what rmtree removes; a lock has a descriptor only.
        if kind == "flock" or not os.path.isabs(args[0]) or str(args[0]).startswith(folder):
            counter.step(kind)

    os.fsync = counted_fsync
    io.open = builtins.open = counted_open
    S3FileSystem._call_s3 = counted_call
    sys.addaudithook(audit)
