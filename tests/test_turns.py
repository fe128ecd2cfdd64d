"""Work of a thread in turns with an event loop: neither runs during a short step of the other."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from serving.turns import Rest, Result, in_turns


class Loop:
    """An event loop that counts how often it comes round."""

    def __init__(self) -> None:
        self.rounds = 0

    async def _count(self) -> None:
        while True:
            self.rounds += 1
            await asyncio.sleep(0)

    async def beside(self, work: Callable[[Rest], Result]) -> Result:
        """What the work returns, run in turns with the counting."""
        counting = asyncio.get_running_loop().create_task(self._count())
        try:
            with ThreadPoolExecutor(1) as thread:
                return await in_turns(work, thread)
        finally:
            counting.cancel()


def test_loop_runs_between_steps_and_stands_still_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.turns.STEP_SECONDS", 60.0)  # this machine may be busy
    loop = Loop()

    def work(rest: Rest) -> list[int]:
        seen = []
        for _ in range(5):
            rest()
            seen.append(loop.rounds)
            time.sleep(0.001)
            seen.append(loop.rounds)
        return seen

    seen = asyncio.run(loop.beside(work))
    assert seen[::2] == seen[1::2]
    assert seen[::2] == sorted(set(seen))


def test_loop_does_not_wait_for_a_long_step() -> None:
    loop = Loop()

    def work(rest: Rest) -> int:
        rest()
        before = loop.rounds
        time.sleep(0.2)
        return loop.rounds - before

    assert asyncio.run(loop.beside(work)) > 10


def test_error_of_the_work_is_raised() -> None:
    def work(rest: Rest) -> NoReturn:
        rest()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(Loop().beside(work))
