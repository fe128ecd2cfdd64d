"""Checks bundles in a process of lowest priority, one for all workers of a server, which share its verdict.

In a worker, checksums and exact scans would hold up every request: a thread takes the interpreter's lock again and
again, and one of lower priority that holds the lock does not give it back before it gets the processor.

The process starts with the server, imports what a check needs, and forks for each: a check begins within milliseconds,
and its memory goes with it.
"""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from pipeline.errors import ArtifactError, TwoTowerError
from pipeline.storage import Location
from serving.bundle import Bundle
from serving.interrupts import held_back

PATIENCE, LEAST_SHARE = 2.0, 0.05
"""A check takes what nobody else wants of the processors. One that gets less than this share of one for so many seconds
begins again with NICE."""
NICE = 5
"""About a third of what a worker gets where both want a processor."""
TICK = RESTART_SECONDS = 1.0
_FORK = multiprocessing.get_context("fork")


async def check(path: Location, run: str, address: str) -> str:
    """Have the published bundle, `run` when last looked at, opened as Bundle.open does by the process at a Unix socket.

    Returns the run that was checked. Raises ArtifactError when it is wrong, ConnectionError when there is no verdict.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(address)
    except OSError as error:
        raise ConnectionError(f"the process that checks bundles cannot be reached: {error}") from None
    try:
        writer.write(json.dumps([str(path), run]).encode())
        writer.write_eof()
        told = await reader.read()
    finally:
        writer.close()
    if not told:
        raise ConnectionError("the process that checks bundles ended")
    checked, wrong = json.loads(told)
    if wrong is not None:
        raise ArtifactError(wrong)
    return checked


class Checker:
    """The process, and the Unix socket at which it listens; requests wait in the socket while the process starts."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="twotower-"))  # nobody else may look into it
        self.address = str(self._folder / "check")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._listener.close()
        shutil.rmtree(self._folder)

    def revive(self) -> None:
        """Start the process anew when it ended."""
        if self._process.poll() is not None and time.monotonic() - self._started > RESTART_SECONDS:
            self._start()

    def stop(self) -> None:
        """End the process; workers who wait for a verdict hear that there will be none."""
        self._process.terminate()
        self._process.wait()

    def _start(self) -> None:
        self._started = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        command = [sys.executable, "-m", "serving.check"]
        with held_back():
            self._process = subprocess.Popen(
                command, env=environment, stdin=self._listener.fileno(), stdout=subprocess.DEVNULL
            )


def serve(listener: socket.socket) -> None:
    """Check what is asked for, one bundle after another, until terminated or left alone by whoever started it.

    The run of a path that was found good last is not checked again for the next who asks.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.nice(NICE)
    parent, good = os.getppid(), dict[str, str]()
    listener.settimeout(TICK)
    while os.getppid() == parent:
        with suppress(TimeoutError, ConnectionError, ValueError):  # a worker that ended amid its question
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(TICK)
                path, run = json.loads(connection.makefile("rb").read())
                error = None
                if good.get(path) != run:
                    run, error = _checked(path)
                    good[path] = run
                connection.sendall(json.dumps([run, error]).encode())


def _checked(path: str) -> tuple[str, str | None]:
    """The run that was checked, and what is wrong with it; "" when something is."""
    for idle in (True, False) if hasattr(os, "SCHED_IDLE") else (False,):
        ours, theirs = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_open, args=(path, theirs, idle), daemon=True)
        process.start()
        theirs.close()
        try:
            if idle and _starves(ours, process.pid):
                continue
            return ours.recv()
        except EOFError:
            process.join()
            return "", f"the check of {path} ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()
            ours.close()
    raise AssertionError("a check without a limit ends")


def _starves(told: Connection, pid: int | None) -> bool:
    """Wait until a process tells something, or gets too little of the processors."""
    used = 0.0
    while not told.poll(PATIENCE):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        before, used = used, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # of user and system
        if used - before < LEAST_SHARE * PATIENCE:
            return True
    return False


def _open(path: str, told: Connection, idle: bool) -> None:
    """Open and check a bundle in this process, and tell the verdict."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if idle:
        # Unlike a nice one, an idle process gives way at once when another wakes on its processor.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        artifact = Bundle.open(path).artifact
        assert artifact is not None
        told.send((artifact.manifest["run"], None))
    except TwoTowerError as error:
        told.send(("", str(error)))


if __name__ == "__main__":
    serve(socket.socket(fileno=sys.stdin.fileno()))
