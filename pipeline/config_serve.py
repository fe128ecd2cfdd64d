"""The `serve` section of the configuration."""

from typing import Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config_section import Section


class EventsConfig(Section):
    """What users clicked since the bundle was made; see docs/serving.md, "Events"."""

    store: str = "sqlite"
    """`sqlite`: a file beside the bundles, shared by the workers. A path: that SQLite file. `redis://host:port/0` (or
    `rediss://`, or `unix://path`): a Redis or Valkey server. `none`: no store, and no POST /v1/events."""
    max_items: PositiveInt = 200
    """Kept per user, the newest."""
    days: PositiveFloat = 7
    """Events older than this are forgotten."""


class ServeConfig(Section):
    """The retrieval server."""

    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 or :: lets other machines in."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free one."""
    workers: PositiveInt = 1
    """Processes, each of which answers from one core; all of them map the same index."""
    max_k: PositiveInt = 1000
    """Items of an answer at most: requests for more are answered 422; those without `k` get 50, or this if fewer."""
    max_body_bytes: PositiveInt = 2_000_000
    """Bytes of a request's body at most; 413 beyond."""
    max_queue: PositiveInt = 256
    """Requests a worker lets wait; it answers 503 with Retry-After to those beyond."""
    max_batch: PositiveInt = 32
    """Requests answered together, of those that came in while the ones before were answered. Nobody waits for more."""
    queue_seconds: PositiveFloat = 2.0
    """A request that waited longer is answered 503: its client has gone, or will not be pleased."""
    read_seconds: PositiveFloat = 10.0
    """A client that takes longer to send its request's header, or its body, is cut off."""
    keep_alive_seconds: NonNegativeInt = 75
    """An idle connection is closed after this."""
    shutdown_seconds: PositiveInt = 30
    """A worker that was told to stop finishes the requests it has, for this long at most."""
    poll_seconds: NonNegativeFloat = 1.0
    """How often a worker looks for a new bundle; 0: only on SIGHUP or POST /v1/admin/reload."""
    keys: str | None = None
    """A YAML file of API keys; without one, everybody who reaches the port may ask."""
    explorer: bool = True
    """Show people the explorer page at `/`, with the operations it needs, which list users and items."""
    compare: str | None = None
    """Another bundle to compare the served one with on the explorer page: the name of another run of the workdir,
    `previous` for what was published before, a path or URL, or that of a run kept in a bundle (`.../run=...`)."""
    access_log: bool = False
    """A JSON line to stderr for each request, without ids or addresses."""
    tls_certificate: str | None = None
    """A PEM file, with `tls_key` that of its key: the server then speaks HTTPS only."""
    tls_key: str | None = None
    """A PEM file without a password."""
    events: EventsConfig = EventsConfig()

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give both `tls_certificate` and `tls_key`, or neither")
        return self
