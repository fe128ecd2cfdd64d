"""Events in a Redis or Valkey server, for several servers that share them. Needs the Python package redis."""

import json
import time
from collections.abc import Sequence

from serving.events_store import DAY, StoredEvent, StoreError

PREFIX = "twotower:events:"
SECONDS = 1.0
"""Redis answers in much less; recommending without fresh events is better than waiting."""


class RedisStore:
    """A list per user, the newest events last. Safe with several servers: each change is one transaction."""

    def __init__(self, url: str, max_items: int, days: float) -> None:
        """Connects with the first call. Raises ModuleNotFoundError without the package, ValueError for a bad URL."""
        import redis.asyncio
        from redis.exceptions import RedisError

        self._error = RedisError
        self._max_items, self._seconds = max_items, days * DAY
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)

    async def append(self, events: Sequence[StoredEvent]) -> None:
        by_user: dict[str, list[str]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(json.dumps([event.timestamp, event.item_id]))
        try:
            async with self._redis.pipeline(transaction=True) as changes:
                for user_id, values in by_user.items():
                    changes.rpush(PREFIX + user_id, *values)
                    changes.ltrim(PREFIX + user_id, -self._max_items, -1)
                    changes.expire(PREFIX + user_id, int(self._seconds) + 1)
                await changes.execute()
        except self._error as error:
            raise StoreError(f"Redis: {error}") from error

    async def recent(self, user_id: str) -> list[str]:
        try:
            values = await self._redis.lrange(PREFIX + user_id, 0, -1)
        except self._error as error:
            raise StoreError(f"Redis: {error}") from error
        oldest = time.time() - self._seconds
        events = sorted((json.loads(value) for value in values), key=lambda event: event[0])
        return [item for timestamp, item in events if timestamp >= oldest]

    async def close(self) -> None:
        await self._redis.aclose()
