"""Answers together what queued while the ones before were answered, and never waits for more."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.errors import RequestError
from serving.errors import OverloadedError
from serving.retriever import Query, Retrieved


class Answering(Protocol):
    """What answers queries; see serving.retriever.Retriever."""

    def recommend(self, query: Query) -> Retrieved: ...

    def recommend_batch(self, queries: Sequence[Query]) -> list[Retrieved]: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    by: Answering
    query: Query
    answer: asyncio.Future[Retrieved]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A bounded queue in front of the retriever, on one event loop.

    Args:
      max_queue: queries that may wait; those beyond are refused at once, which costs less than answering them late.
      max_batch: queries answered together. Between two batches the loop reads new requests and sends answers.
      max_seconds: a query that waited longer is refused when its turn comes.
      answered: called with the size of each batch.
      alone: whether no other request is on its way, so that there is nothing to batch with.
    """

    def __init__(
        self,
        max_queue: int,
        max_batch: int,
        max_seconds: float,
        answered: Callable[[int], None] = lambda _: None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._max_queue, self._max_batch, self._max_seconds = max_queue, max_batch, max_seconds
        self._answered, self._alone = answered, alone
        self._queue: deque[_Waiting] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._queue)

    def full(self) -> bool:
        """Whether not even one more may wait."""
        return len(self._queue) >= self._max_queue

    def check_room(self, queries: int) -> None:
        """Raises OverloadedError when so many more may not wait."""
        if len(self._queue) + queries > self._max_queue:
            raise OverloadedError(f"{len(self._queue)} requests wait already. Cure: ask again later", 1)

    def submit(self, by: Answering, query: Query) -> asyncio.Future[Retrieved]:
        """The answer to come, or the RequestError that recommending raises. Raises OverloadedError at once."""
        self.check_room(1)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(by, query, loop.create_future())
        self._queue.append(waiting)
        if len(self._queue) == 1 and self._alone():
            self._run()  # saves two rounds of the loop
        elif not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run)
        return waiting.answer

    def _run(self) -> None:
        batch = self._next()
        if batch:
            _answer(batch)
            self._answered(len(batch))
        self._scheduled = bool(self._queue)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._run)

    def _next(self) -> list[_Waiting]:
        """The oldest queries that still matter, all for the bundle of the first."""
        batch: list[_Waiting] = []
        oldest = time.monotonic() - self._max_seconds
        while self._queue and len(batch) < self._max_batch:
            if batch and self._queue[0].by is not batch[0].by:
                break
            waiting = self._queue.popleft()
            if waiting.answer.done():  # cancelled: its client has gone
                continue
            if waiting.since < oldest:
                waiting.answer.set_exception(OverloadedError("the request waited too long. Cure: ask again later", 1))
                continue
            batch.append(waiting)
        return batch


def _answer(batch: list[_Waiting]) -> None:
    """Answer together, or one by one where together is refused: one impossible query must not spoil the others."""
    if len(batch) > 1:
        try:
            found = batch[0].by.recommend_batch([waiting.query for waiting in batch])
            for waiting, retrieved in zip(batch, found, strict=True):
                waiting.answer.set_result(retrieved)
            return
        except RequestError:
            pass
        except Exception as error:  # a fault of ours; whoever awaits must hear of it
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
    for waiting in batch:
        try:
            waiting.answer.set_result(waiting.by.recommend(waiting.query))
        except Exception as error:
            waiting.answer.set_exception(error)
