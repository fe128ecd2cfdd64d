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


Write = Callable[[Retrieved], bytes]


@dataclass(slots=True)
class _Waiting:
    by: Answering
    query: Query
    write: Write
    answer: asyncio.Future[bytes]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A bounded queue in front of the retriever, on one event loop.

    Args:
      max_queue: queries that may wait; those beyond are refused at once, which costs less than answering them late.
      max_batch: queries answered together. Between two batches the loop reads new requests and sends answers.
      max_seconds: a query that waited longer is refused when its turn comes.
      answered: called with the size of each batch.
    """

    def __init__(
        self,
        max_queue: int,
        max_batch: int,
        max_seconds: float,
        answered: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._max_queue, self._max_batch, self._max_seconds = max_queue, max_batch, max_seconds
        self._answered = answered
        self._queue: deque[_Waiting] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._queue)

    def full(self) -> bool:
        """Whether not even one more may wait."""
        return len(self._queue) >= self._max_queue

    def check_room(self, queries: int) -> None:
        """Raises OverloadedError when so many more may not wait now, RequestError when they never may."""
        if queries > self._max_queue:
            raise RequestError(f"a batch may have {self._max_queue} requests (`serve.max_queue`), not {queries}")
        if len(self._queue) + queries > self._max_queue:
            raise OverloadedError(f"{len(self._queue)} requests wait already. Cure: ask again later", 1)

    def submit(self, by: Answering, query: Query, write: Write, lone: bool = False) -> bytes | asyncio.Future[bytes]:
        """What `write` makes of the answer, now or later; then the RequestError that recommending raises as well.

        lone: nobody else asks, so there is nothing to batch with. Raises OverloadedError at once.
        """
        if lone and not self._queue:
            found = by.recommend(query)
            self._answered(1)
            return write(found)
        self.check_room(1)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(by, query, write, loop.create_future())
        self._queue.append(waiting)
        if not self._scheduled:
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
        except RequestError:
            pass
        except Exception as error:  # a fault of ours; whoever awaits must hear of it
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        else:
            for waiting, retrieved in zip(batch, found, strict=True):
                _tell(waiting, retrieved)
            return
    for waiting in batch:
        _tell(waiting)


def _tell(waiting: _Waiting, found: Retrieved | None = None) -> None:
    """Write what was found, or find it first."""
    try:
        waiting.answer.set_result(waiting.write(found or waiting.by.recommend(waiting.query)))
    except Exception as error:
        waiting.answer.set_exception(error)
