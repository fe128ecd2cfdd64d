"""Events in a Redis or Valkey server, for several servers that share them. Needs the Python package redis."""

import time
from collections.abc import Sequence
from typing import Any

from serving.events_store import DAY, StoredEvent, StoreError

PREFIX = "twotower:recent:"
PLACE = 25
"""Digits before the item id of a kept event: when it was sent, so that events of one time stay in their order."""
SECONDS = 1.0
"""Redis answers in much less; recommending without fresh events is better than waiting."""


class RedisStore:
    """A sorted set per user, by the time of the event. Safe with several servers: each change is one transaction."""

    def __init__(self, url: str, max_items: int, days: float) -> None:
        """Connects with the first call. Raises ModuleNotFoundError without the package, ValueError for a bad URL."""
        import redis.asyncio
        from redis.exceptions import RedisError

        self._error = RedisError
        self._max_items, self._seconds = max_items, days * DAY
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)

    async def append(self, events: Sequence[StoredEvent]) -> None:
        by_user: dict[str, dict[str, float]] = {}
        sent = time.time_ns()
        for place, event in enumerate(events):
            member = f"{sent + place:0{PLACE}d}{event.item_id}"
            by_user.setdefault(event.user_id, {})[member] = event.timestamp
        try:
            async with self._redis.pipeline(transaction=True) as changes:
                for user_id, members in by_user.items():
                    changes.zadd(PREFIX + user_id, members)
                    changes.zremrangebyrank(PREFIX + user_id, 0, -self._max_items - 1)
                    changes.expire(PREFIX + user_id, int(self._seconds) + 1)
                await changes.execute()
        except self._error as error:
            raise StoreError(f"Redis: {error}") from error

    async def recent(self, user_id: str) -> list[str]:
        try:
            members: Any = await self._redis.zrangebyscore(PREFIX + user_id, time.time() - self._seconds, "+inf")
        except self._error as error:
            raise StoreError(f"Redis: {error}") from error
        return [member.decode()[PLACE:] for member in members]

    async def close(self) -> None:
        await self._redis.aclose()
