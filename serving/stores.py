"""Opens the store of events that the settings name."""

from pathlib import Path

from pipeline.config_serve import EventsConfig
from pipeline.errors import ConfigError
from pipeline.storage import Location
from serving.events_store import EventsStore
from serving.redis_store import RedisStore
from serving.sqlite_store import SqliteStore


def open_store(settings: EventsConfig, bundle_path: Location) -> EventsStore | None:
    """The store of the settings, None for `none`. Raises ConfigError."""
    where = settings.store
    if where == "none":
        return None
    if where.startswith(("redis://", "rediss://", "unix://")):
        try:
            return RedisStore(where, settings.max_items, settings.days)
        except ModuleNotFoundError:
            raise ConfigError("`serve.events.store` needs the Python package redis. Cure: pip install redis") from None
        except ValueError as error:
            raise ConfigError(f"`serve.events.store`: {error}") from None
    if where == "sqlite" and not isinstance(bundle_path, Path):
        raise ConfigError(
            f"there is no place for a SQLite file beside {bundle_path}. Cure: set `serve.events.store` to a local "
            "path, to redis://..., or to none"
        )
    path = Path(where) if where != "sqlite" else Path(str(bundle_path)).parent / "events.sqlite"
    return SqliteStore(path, settings.max_items, settings.days)
