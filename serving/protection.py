"""Who may ask, and how often: API keys and their rate limits."""

import hashlib
import hmac
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from pipeline.errors import ConfigError
from serving.errors import ForbiddenError, RateLimitError, UnauthorizedError
from serving.shared_numbers import SharedNumbers

TOKENS, UPDATED = 0, 1
SCHEME = b"bearer "


class Key(BaseModel):
    """One API key, known by the SHA-256 of its text, so that whoever reads the file cannot use it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_second: PositiveFloat | None = None
    """None: as many as it likes. A batch counts as its requests."""
    burst: PositiveFloat | None = None
    """Requests at once after a pause; None: those of one second, at least 1."""
    admin: bool = False
    """May reload the bundle and read metrics."""

    @property
    def capacity(self) -> float:
        """Of the bucket of tokens."""
        return self.burst if self.burst is not None else max(1.0, self.requests_per_second or 1.0)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key] = Field(min_length=1)

    @model_validator(mode="after")
    def _different(self) -> Self:
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            if len(set(values)) != len(values):
                raise ValueError(f"two keys have the same {what}")
        return self


def read_keys(path: str | None) -> list[Key]:
    """The keys of a YAML file, none without a file. Raises ConfigError."""
    if path is None:
        return []
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return _KeyFile.model_validate(content).keys
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem else str(error).splitlines()[0]
        raise ConfigError(f"cannot use the keys in {path} (`serve.keys`): {reason}") from None


@dataclass(frozen=True)
class Caller:
    """Who asks. `place` is the key's in the file."""

    key: Key
    place: int


class Gate:
    """Checks keys and takes their tokens.

    The buckets lie in numbers shared by the workers: two of them that take a token at the same moment may take one
    for both, so a limit can be exceeded by a few requests, never undercut.
    """

    def __init__(self, keys: list[Key], buckets: SharedNumbers) -> None:
        self._keys = keys
        self._digests = [bytes.fromhex(key.sha256) for key in keys]
        self._buckets = buckets

    def enter(self, authorization: bytes) -> Caller | None:
        """The caller by its `Authorization: Bearer ...` header; None where no keys are asked for.

        Raises UnauthorizedError.
        """
        if not self._keys:
            return None
        if authorization[: len(SCHEME)].lower() != SCHEME:
            raise UnauthorizedError("send an API key in the header `Authorization: Bearer <key>`")
        digest = hashlib.sha256(authorization[len(SCHEME) :].strip()).digest()
        # All are compared, each in constant time: how long it takes tells nothing about any key.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise UnauthorizedError("the API key is not known")
        place = matches.index(True)
        return Caller(self._keys[place], place)

    def take(self, caller: Caller | None, tokens: float = 1.0, before: float = 0.0) -> None:
        """Take tokens from the caller's bucket; `before`: those the request has taken already.

        Raises RateLimitError when there are not enough.
        """
        if caller is None or caller.key.requests_per_second is None:
            return
        key, bucket, now = caller.key, self._buckets.row(caller.place), time.monotonic()
        rate = caller.key.requests_per_second
        held = min(key.capacity, bucket[TOKENS] + (now - bucket[UPDATED]) * rate) if bucket[UPDATED] else key.capacity
        if before + tokens > key.capacity:
            counts = f"the request counts as {before + tokens:.0f}"
            raise RateLimitError(f"{counts}, but the key's burst is {key.capacity:g}. Cure: send fewer at once")
        if held < tokens:
            wait = math.ceil((tokens - held) / rate)
            raise RateLimitError(f"the key may ask {rate:g} times a second. Cure: ask again in {wait} s", wait)
        bucket[TOKENS], bucket[UPDATED] = held - tokens, now

    def admit_admin(self, caller: Caller | None) -> None:
        """Raises ForbiddenError for a key that is no administrator's."""
        if caller is not None and not caller.key.admin:
            raise ForbiddenError("the key may not do this: it is not marked `admin` in the file of keys")
