"""Events in a SQLite file, shared by the workers of one machine."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError
from serving.events_store import DAY, StoredEvent, StoreError

BUSY_SECONDS = 5.0
"""How long a writer waits for its turn."""


class SqliteStore:
    """One SQLite file in WAL mode: readers never wait for a writer, and writers take turns.

    Reads run on the event loop, where they take some microseconds; writes run in a thread. What was accepted survives
    the end of a process; after a power cut the last moments may be missing.
    """

    def __init__(self, path: Path, max_items: int, days: float) -> None:
        self._max_items, self._seconds = max_items, days * DAY
        self._turn = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader, self._writer = (self._connect(path) for _ in range(2))
            with self._writer:
                self._writer.execute(
                    "CREATE TABLE IF NOT EXISTS events (user_id TEXT NOT NULL, timestamp REAL NOT NULL, "
                    "item_id TEXT NOT NULL)"
                )
                self._writer.execute("CREATE INDEX IF NOT EXISTS by_user ON events (user_id, timestamp)")
                self._writer.execute("CREATE INDEX IF NOT EXISTS by_age ON events (timestamp)")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"cannot keep events in {path}: {error}. Cure: another `serve.events.store`, or none"
            ) from None

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    async def append(self, events: Sequence[StoredEvent]) -> None:
        await asyncio.to_thread(self._append, list(events))

    def _append(self, events: list[StoredEvent]) -> None:
        rows = [(event.user_id, event.timestamp, event.item_id) for event in events]
        users = list(dict.fromkeys(event.user_id for event in events))
        try:
            with self._turn, self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                self._writer.execute("DELETE FROM events WHERE timestamp < ?", (time.time() - self._seconds,))
                self._writer.executemany(
                    "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events WHERE user_id = ? "
                    "ORDER BY timestamp DESC, rowid DESC LIMIT -1 OFFSET ?)",
                    [(user, self._max_items) for user in users],
                )
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error

    def recent(self, user_id: str) -> list[str]:
        oldest = time.time() - self._seconds
        try:
            found = self._reader.execute(
                "SELECT item_id FROM events WHERE user_id = ? AND timestamp >= ? ORDER BY timestamp, rowid",
                (user_id, oldest),
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error
        return [item for (item,) in found]

    async def close(self) -> None:
        self._reader.close()
        self._writer.close()
