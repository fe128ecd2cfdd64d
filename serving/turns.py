"""A thread's work in short steps, during which the event loop stands still: the two never fight for the interpreter.

NumPy lets go of the interpreter's lock in almost every call. Where two threads want it, each waits for the other, and
for the system to wake it, a hundred times in a step of half a millisecond, and both take several.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")
Rest = Callable[[], None]
"""Called by the work between two steps."""

REST_SECONDS = 0.003
"""Between two steps, for the event loop alone."""
STEP_SECONDS = 0.002
"""The event loop stands still no longer: a step that reads a large file goes on beside it."""
PATIENCE = 1.0
"""After so long without a turn the work goes on: the event loop may have ended."""


async def in_turns(work: Callable[[Rest], Result], thread: Executor) -> Result:
    """What `work` returns or raises, in a thread that takes turns with the event loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(thread, _Turns(loop).run, work)


class _Turns:
    """_ended: set when the current step is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._ended = loop, threading.Event()

    def run(self, work: Callable[[Rest], Result]) -> Result:
        """In the thread."""
        try:
            return work(self._rest)
        finally:
            self._ended.set()

    def _rest(self) -> None:
        """End a step, and begin the next when the event loop gives way."""
        self._ended.set()
        time.sleep(REST_SECONDS)
        given, self._ended = threading.Event(), threading.Event()
        self._loop.call_soon_threadsafe(_give, given, self._ended)
        given.wait(PATIENCE)


def _give(given: threading.Event, ended: threading.Event) -> None:
    """Let the thread take its step."""
    given.set()
    ended.wait(STEP_SECONDS)
