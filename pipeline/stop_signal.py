"""SIGTERM and SIGINT while a run trains: remembered, and obeyed where nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """`name` and `exit_code` (128 + the number) of the signal that came, None until one does."""

    name: str | None = None
    exit_code: int | None = None

    def receive(self, number: int, _: FrameType | None) -> None:
        """A second signal finds Python's own handlers again, and stops at once."""
        self.name, self.exit_code = signal.Signals(number).name, 128 + number
        for each in SIGNALS:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)


@contextmanager
def listening() -> Iterator[StopSignal]:
    """Remember signals inside the block. Python gives them to the main thread alone; in others nothing is changed."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: signal.signal(each, stop.receive) for each in SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
