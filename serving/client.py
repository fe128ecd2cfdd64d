"""A Python client of the HTTP server."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from pipeline.errors import RequestError
from serving.errors import NotFoundError


class RetrievalClient:
    """Calls one server; keeps its connections, so use one client for many calls, and close it or use `with`.

    Every method returns the response of the HTTP API as a dict. They raise NotFoundError when the bundle does not
    know the user or item, RequestError when the request is refused or no server answers.

    >>> with RetrievalClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     client.recommend(user_id="42", k=10)["items"]
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout)

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        features: Mapping[str, Any] | None = None,
        k: int = 50,
        exclude_seen: bool = True,
        exclude: Sequence[str] = (),
        fields: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The k best items for a user; see serving.retriever.Query."""
        body = {"k": k, "exclude_seen": exclude_seen, "exclude": list(exclude), "fields": list(fields)}
        given = {"user_id": user_id, "history": history, "features": features}
        body |= {name: value for name, value in given.items() if value is not None}
        return self._call("POST", "/v1/recommend", json=body)

    def similar(self, item_id: str, k: int = 50, fields: Sequence[str] = ()) -> dict[str, Any]:
        """The k items nearest to an item."""
        return self._call("GET", f"/v1/items/{_path(item_id)}/similar", params={"k": k, "field": list(fields)})

    def item(self, item_id: str) -> dict[str, Any]:
        """An item's title and fields."""
        return self._call("GET", f"/v1/items/{_path(item_id)}")

    def user(self, user_id: str, recent: int = 20) -> dict[str, Any]:
        """A user's fields and most recent items."""
        return self._call("GET", f"/v1/users/{_path(user_id)}", params={"recent": recent})

    def bundle(self) -> dict[str, Any]:
        """Which bundle is served, and what it can do."""
        return self._call("GET", "/v1/bundle")

    def health(self) -> dict[str, Any]:
        """Whether the server can answer."""
        return self._call("GET", "/v1/health")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise RequestError(f"no answer from {where}: {error}. Cure: start one with `twotower serve`") from error
        if response.is_success:
            return response.json()
        kind = NotFoundError if response.status_code == httpx.codes.NOT_FOUND else RequestError
        raise kind(_message(response))


def _path(identifier: str) -> str:
    return quote(identifier, safe="")


def _message(response: httpx.Response) -> str:
    if response.headers.get("content-type", "").startswith("application/json"):
        error = response.json().get("error", {})
        if "message" in error:
            return error["message"]
    return f"{response.url} answered {response.status_code} {response.reason_phrase}"
