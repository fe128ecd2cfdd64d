"""A Ctrl-C reaches every process of a terminal; those that are told to stop by who started them need not hear it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started within hear no interrupt, from their first moment on; this one hears it at the end."""
    resource_tracker.ensure_running()  # which multiprocessing starts with its first process, and then lets all through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
