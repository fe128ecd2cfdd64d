"""The error of the serving plane that is not a mistake in the request itself."""

from pipeline.errors import RequestError


class NotFoundError(RequestError):
    """The request names a user or an item that the bundle does not know."""
