"""An error -> what is answered for it: status, body, headers."""

import logging
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import ValidationError

from pipeline.errors import RequestError
from serving.errors import (
    HttpError,
    MethodError,
    NotFoundError,
    NotJsonError,
    UnauthorizedError,
)

LOG = logging.getLogger("serving")
Headers = list[tuple[bytes, bytes]]
MAX_TOLD = 10
"""Problems of one request that are told."""


def refusal(error: BaseException) -> tuple[int, bytes, Headers]:
    """What is answered for an error: status, body in JSON, headers beside those that every answer has."""
    headers: Headers = []
    if isinstance(error, ValidationError):
        error = _explained(error)
    if isinstance(error, HttpError):
        status, code, message = error.status, error.code, str(error)
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if isinstance(error, MethodError):
            headers.append((b"allow", error.allowed.encode()))
        if isinstance(error, UnauthorizedError):
            headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, NotFoundError):
        status, code, message = 404, "not_found", str(error)
    elif isinstance(error, RequestError):
        status, code, message = 422, "invalid_request", str(error)
    else:
        LOG.error("a request failed", exc_info=error)
        status, code, message = 500, "internal", "the server failed; its log tells more"
    return status, orjson.dumps({"error": {"code": code, "message": clean(message)}}), headers


def clean(message: str) -> str:
    """A message that can be written as UTF-8: what it quotes may hold a lone surrogate."""
    return message.encode("utf-8", "replace").decode()


def _explained(error: ValidationError) -> RequestError:
    """pydantic's list of problems in words."""
    problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid" and not problems[0]["loc"]:
        return NotJsonError(f"the body is not JSON: {problems[0]['ctx']['error']}")
    return RequestError("; ".join(_told(problems[:MAX_TOLD])))


def _told(problems: Iterable[Any]) -> Iterable[str]:
    for problem in problems:
        where = ".".join(str(part)[:100] for part in problem["loc"])
        yield f"{where}: {problem['msg']}" if where else problem["msg"]
