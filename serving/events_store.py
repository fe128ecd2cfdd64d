"""Where events go that are younger than the bundle: a store that all workers, or all servers, share."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

DAY = 86_400.0


@dataclass(frozen=True)
class StoredEvent:
    """A user's event at a time in Unix seconds."""

    user_id: str
    item_id: str
    timestamp: float


class StoreError(Exception):
    """The store does not answer."""


class EventsStore(Protocol):
    """Keeps the newest events of each user for some days."""

    async def append(self, events: Sequence[StoredEvent]) -> None:
        """Keep events; all of them, or none. Raises StoreError."""

    def recent(self, user_id: str) -> list[str] | Awaitable[list[str]]:
        """A user's kept items, oldest first; later, where that takes longer than microseconds. Raises StoreError."""

    async def close(self) -> None:
        """Close the connections."""
