"""The errors of the serving plane: requests that are refused, each with its HTTP status and a code for programs."""

from typing import ClassVar

from pipeline.errors import RequestError


class NotFoundError(RequestError):
    """The request names a user or an item that the bundle does not know."""


class HttpError(RequestError):
    """A request that is answered with an error of HTTP's own, whatever it asked for.

    retry_after: whole seconds after which the same request may do better, if it may.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeaderError(HttpError):
    """The request is not HTTP, so that its connection cannot be read on."""

    status, code = 400, "not_http"


class LargeHeaderError(HeaderError):
    """The header does not end."""

    status, code = 431, "too_large"


class NotJsonError(HttpError):
    """The body is not JSON."""

    status, code = 400, "not_json"


class UnauthorizedError(HttpError):
    """The request carries no key, or none that is known."""

    status, code = 401, "unauthorized"


class ForbiddenError(HttpError):
    """The key is known, but may not do this."""

    status, code = 403, "forbidden"


class NoRouteError(HttpError):
    """Nothing lives at this path."""

    status, code = 404, "not_found"


class AbsentError(HttpError):
    """The bundle, or the server, does without what is asked for."""

    status, code = 404, "not_in_bundle"


class MethodError(HttpError):
    """The path exists, but not with this method."""

    status, code = 405, "method_not_allowed"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class SlowBodyError(HttpError):
    """The body did not come in time."""

    status, code = 408, "timeout"


class TooLargeError(HttpError):
    """The body is larger than `serve.max_body_bytes`."""

    status, code = 413, "too_large"


class MediaTypeError(HttpError):
    """The body does not say that it is JSON."""

    status, code = 415, "not_json"


class RateLimitError(HttpError):
    """The key has used up what it may ask for now."""

    status, code = 429, "rate_limited"


class OverloadedError(HttpError):
    """More requests wait than the server can answer in time."""

    status, code = 503, "overloaded"
