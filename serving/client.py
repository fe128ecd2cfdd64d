"""Python clients of the HTTP server: one that waits, and one for asyncio."""

import asyncio
import json
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from pipeline.errors import RequestError
from serving.errors import NotFoundError

Json = dict[str, Any]
Which = Literal["served", "compare"]
Answer = TypeVar("Answer")
AGAIN = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
LONGEST_PAUSE = 10.0


class _Calls(ABC, Generic[Answer]):
    """The calls of the API; `_call` sends one. Answer: its response as a dict, or an awaitable of it."""

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        features: Mapping[str, Any] | None = None,
        k: int = 50,
        exclude_seen: bool = True,
        exclude: Sequence[str] = (),
        fields: Sequence[str] = (),
        filter: Mapping[str, Any] | None = None,
        titles: bool = True,
        bundle: Which = "served",
    ) -> Answer:
        """The k best items for a user; see serving.retriever.Query, and serving/filters.py for filters.

        bundle: `compare` asks the one of `twotower serve --compare`, here and elsewhere.
        """
        body: dict[str, Any] = {"k": k, "exclude_seen": exclude_seen, "exclude": list(exclude)}
        body |= {"fields": list(fields), "titles": titles, "bundle": bundle}
        given = {"user_id": user_id, "history": history, "features": features, "filter": filter}
        body |= {name: value for name, value in given.items() if value is not None}
        return self._call("POST", "/v1/recommend", json=body)

    def recommend_batch(self, requests: Sequence[Mapping[str, Any]], bundle: Which = "served") -> Answer:
        """Several requests at once, each with the arguments of `recommend` that it needs; one bundle for all."""
        body = {"requests": [dict(request) for request in requests], "bundle": bundle}
        return self._call("POST", "/v1/recommend/batch", json=body)

    def similar(
        self,
        item_id: str,
        k: int = 50,
        fields: Sequence[str] = (),
        exclude: Sequence[str] = (),
        filter: Mapping[str, Any] | None = None,
        kind: Literal["embedding", "session", "title"] = "embedding",
        bundle: Which = "served",
    ) -> Answer:
        """The k items nearest to an item by the model's vectors; or the nearest by sessions or titles, if listed."""
        params: dict[str, Any] = {"k": k, "field": list(fields), "exclude": list(exclude)}
        params |= {"kind": kind, "bundle": bundle}
        if filter is not None:
            params["filter"] = json.dumps(filter)
        return self._call("GET", f"/v1/items/{_path(item_id)}/similar", params=params)

    def item(self, item_id: str, bundle: Which = "served") -> Answer:
        """An item's title and fields."""
        return self._call("GET", f"/v1/items/{_path(item_id)}", params={"bundle": bundle})

    def user(self, user_id: str, recent: int = 20, bundle: Which = "served") -> Answer:
        """A user's fields and most recent items."""
        return self._call("GET", f"/v1/users/{_path(user_id)}", params={"recent": recent, "bundle": bundle})

    def search_items(self, text: str, limit: int = 10, bundle: Which = "served") -> Answer:
        """Items by a part of their title, or by the beginning of their id."""
        return self._call("GET", "/v1/items", params={"q": text, "limit": limit, "bundle": bundle})

    def search_users(self, text: str, limit: int = 10, bundle: Which = "served") -> Answer:
        """Users by the beginning of their id."""
        return self._call("GET", "/v1/users", params={"q": text, "limit": limit, "bundle": bundle})

    def fields(self, bundle: Which = "served") -> Answer:
        """The item fields with their frequent values, or their range."""
        return self._call("GET", "/v1/fields", params={"bundle": bundle})

    def item_map(self, field: str = "", bundle: Which = "served") -> Answer:
        """Where the items lie in two dimensions, with the values of a field."""
        return self._call("GET", "/v1/map", params={"field": field, "bundle": bundle})

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> Answer:
        """What users clicked since the bundle was made, oldest first: `user_id`, `item_id` and perhaps `timestamp`."""
        return self._call("POST", "/v1/events", json={"events": [dict(event) for event in events]})

    def bundle(self, bundle: Which = "served") -> Answer:
        """Which bundle is served, and what it can do."""
        return self._call("GET", "/v1/bundle", params={"bundle": bundle})

    def reload(self) -> Answer:
        """Have the server look for a newly published bundle at once."""
        return self._call("POST", "/v1/admin/reload")

    def health(self) -> Answer:
        """Whether the server runs."""
        return self._call("GET", "/v1/health")

    def ready(self) -> Answer:
        """Whether the server has room for requests."""
        return self._call("GET", "/v1/ready")

    @abstractmethod
    def _call(self, method: str, path: str, **arguments: Any) -> Answer: ...


class RetrievalClient(_Calls[Json]):
    """Calls one server; keeps its connections, so use one client for many calls, and close it or use `with`.

    Every method returns the response of the HTTP API as a dict. They raise NotFoundError when the bundle does not
    know the user or item, RequestError when the request is refused or no server answers. A server that is overloaded
    is asked again when it says so, `retries` times. key: the API key. verify: for a certificate of your own.

    >>> with RetrievalClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     client.recommend(user_id="42", k=10)["items"]
    """

    def __init__(
        self,
        url: str,
        timeout: float = 10.0,
        key: str | None = None,
        retries: int = 2,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout, headers=_headers(key), verify=verify)
        self._retries = retries

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, **arguments: Any) -> Json:
        for tries_left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                raise _no_answer(self._http.base_url, error) from error
            pause = _pause(response)
            if pause is None or not tries_left:
                break
            time.sleep(pause)
        return _content(response)


class AsyncRetrievalClient(_Calls[Awaitable[Json]]):
    """RetrievalClient for asyncio: every method is awaited.

    >>> async with AsyncRetrievalClient("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     (await client.recommend(user_id="42", k=10))["items"]
    """

    def __init__(
        self,
        url: str,
        timeout: float = 10.0,
        key: str | None = None,
        retries: int = 2,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, headers=_headers(key), verify=verify)
        self._retries = retries

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        for tries_left in range(self._retries, -1, -1):
            try:
                response = await self._http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                raise _no_answer(self._http.base_url, error) from error
            pause = _pause(response)
            if pause is None or not tries_left:
                break
            await asyncio.sleep(pause)
        return _content(response)


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _path(identifier: str) -> str:
    """An id as a part of a path; nothing but dots would lead to another path."""
    quoted = quote(identifier, safe="")
    return quoted if identifier.strip(".") else quoted.replace(".", "%2E")


def _pause(response: httpx.Response) -> float | None:
    """Seconds after which to ask again, None when that is of no use."""
    after = response.headers.get("retry-after", "")
    if response.status_code not in AGAIN or not after.isdigit():
        return None
    return min(float(after), LONGEST_PAUSE)


def _no_answer(url: httpx.URL, error: httpx.HTTPError) -> RequestError:
    return RequestError(f"no answer from {url}: {error}. Cure: start one with `twotower serve`")


def _content(response: httpx.Response) -> Json:
    if response.is_success:
        return response.json()
    kind = NotFoundError if response.status_code == httpx.codes.NOT_FOUND else RequestError
    raise kind(_message(response))


def _message(response: httpx.Response) -> str:
    if response.headers.get("content-type", "").startswith("application/json"):
        error = response.json().get("error", {})
        if "message" in error:
            return error["message"]
    return f"{response.url} answered {response.status_code} {response.reason_phrase}"
