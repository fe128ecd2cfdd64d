"""The queue in front of the retriever: together, in order, bounded, and one bad query spoils no other."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.errors import RequestError
from serving.batching import Batcher
from serving.errors import OverloadedError
from serving.retriever import Query, Retrieved


@dataclass
class Counting:
    """Answers a query with its k as the only item; refuses k = 0; sleeps if it is to."""

    seconds: float = 0.0
    batches: list[int] = field(default_factory=list)

    def recommend(self, query: Query) -> Retrieved:
        if query.k == 0:
            raise RequestError("k is 0")
        time.sleep(self.seconds)
        return Retrieved(np.array([query.k]), np.zeros(1, np.float32))

    def recommend_batch(self, queries: Sequence[Query]) -> list[Retrieved]:
        self.batches.append(len(queries))
        return [self.recommend(query) for query in queries]


def write(found: Retrieved) -> bytes:
    return b"%d" % found.items[0]


def submitted(batcher: Batcher, by: Counting, k: int) -> asyncio.Future[bytes]:
    answer = batcher.submit(by, Query(k=k), write)
    assert isinstance(answer, asyncio.Future)
    return answer


def answers(batcher: Batcher, asked: Sequence[tuple[Counting, int]]) -> list[int | str]:
    """The item of each answer, or the name of its error."""

    async def ask(by: Counting, k: int) -> int | str:
        try:
            return int(await submitted(batcher, by, k))
        except RequestError as error:
            return type(error).__name__

    async def all_at_once() -> list[int | str]:
        return list(await asyncio.gather(*(ask(by, k) for by, k in asked)))

    return asyncio.run(all_at_once())


def test_what_queued_is_answered_together_up_to_the_limit() -> None:
    by, sizes = Counting(), []
    assert answers(Batcher(99, 4, 9.0, sizes.append), [(by, k) for k in range(1, 11)]) == list(range(1, 11))
    assert sizes == [4, 4, 2]
    assert by.batches == [4, 4, 2]


def test_single_query_is_answered_alone() -> None:
    by = Counting()
    assert answers(Batcher(99, 4, 9.0), [(by, 7)]) == [7]
    assert by.batches == []


def test_bad_query_spoils_no_other() -> None:
    by = Counting()
    assert answers(Batcher(99, 4, 9.0), [(by, 1), (by, 0), (by, 3)]) == [1, "RequestError", 3]


def test_queries_of_two_bundles_are_not_mixed() -> None:
    old, new = Counting(), Counting()
    assert answers(Batcher(99, 8, 9.0), [(old, 1), (old, 2), (new, 3), (new, 4), (new, 5)]) == [1, 2, 3, 4, 5]
    assert (old.batches, new.batches) == ([2], [3])


def test_queries_beyond_the_queue_are_refused() -> None:
    by = Counting()
    assert answers(Batcher(3, 8, 9.0), [(by, k) for k in range(1, 6)]) == [
        1,
        2,
        3,
        "OverloadedError",
        "OverloadedError",
    ]


def test_query_that_waited_too_long_is_refused() -> None:
    by = Counting(seconds=0.05)
    assert answers(Batcher(9, 1, 0.02), [(by, 1), (by, 2)]) == [1, "OverloadedError"]


def test_query_whose_client_has_gone_is_not_answered() -> None:
    by = Counting()

    async def leave() -> None:
        batcher = Batcher(9, 8, 9.0)
        gone, *others = (submitted(batcher, by, k) for k in range(1, 4))
        gone.cancel()
        await asyncio.gather(*others)

    asyncio.run(leave())
    assert by.batches == [2]


def test_room_is_asked_for_several_at_once() -> None:
    async def ask() -> None:
        batcher = Batcher(3, 8, 9.0)
        batcher.check_room(3)
        waiting = submitted(batcher, Counting(), 1)
        with pytest.raises(OverloadedError):
            batcher.check_room(3)
        await waiting

    asyncio.run(ask())


def test_batch_for_which_there_never_is_room_is_not_told_to_come_again() -> None:
    with pytest.raises(RequestError, match=r"a batch may have 3 requests \(`serve\.max_queue`\), not 4") as refused:
        Batcher(3, 8, 9.0).check_room(4)
    assert not isinstance(refused.value, OverloadedError)


def test_fault_in_a_batch_reaches_everybody_who_waits() -> None:
    class Broken(Counting):
        def recommend_batch(self, queries: Sequence[Query]) -> list[Retrieved]:
            raise ValueError("a fault of ours")

    async def ask() -> list[bytes | BaseException]:
        batcher = Batcher(9, 8, 9.0)
        waiting = [submitted(batcher, Broken(), 1)] + [submitted(batcher, by, 1) for by in [Broken()] * 2]
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(ask())][1:] == [ValueError, ValueError]


def test_lone_query_is_answered_at_once() -> None:
    assert Batcher(9, 8, 9.0).submit(Counting(), Query(k=3), write, lone=True) == b"3"


def test_lone_query_waits_behind_those_that_wait() -> None:
    async def ask() -> list[bytes]:
        batcher, by = Batcher(9, 8, 9.0), Counting()
        first, second = submitted(batcher, by, 1), batcher.submit(by, Query(k=2), write, lone=True)
        assert isinstance(second, asyncio.Future)
        return [await first, await second]

    assert asyncio.run(ask()) == [b"1", b"2"]


def test_answer_that_cannot_be_written_spoils_no_other() -> None:
    def refuse(found: Retrieved) -> bytes:
        raise RequestError("cannot be written")

    async def ask() -> list[bytes | BaseException]:
        batcher, by = Batcher(9, 8, 9.0), Counting()
        spoilt = batcher.submit(by, Query(k=1), refuse)
        assert isinstance(spoilt, asyncio.Future)
        return await asyncio.gather(spoilt, submitted(batcher, by, 2), return_exceptions=True)

    first, second = asyncio.run(ask())
    assert isinstance(first, RequestError)
    assert second == b"2"
