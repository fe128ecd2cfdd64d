"""The operations that only the explorer page needs, which list what a bundle holds. `serve.explorer` switches them."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from serving import browse_schemas as schemas
from serving.choice import Choice
from serving.route import ALWAYS, Request, Route
from serving.schemas import BundleParams

T = TypeVar("T")


class BrowseApi:
    """Each operation runs in a thread, one at a time, so that recommendations do not wait for it."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._turn = asyncio.Lock()

    async def search_items(self, request: Request) -> bytes:
        """Items by a part of their title, or by the beginning of their id."""
        params: schemas.SearchParams = request.params()
        served = self._choice.served(params.bundle)
        items = await self._aside(lambda: served.browse.search_items(params.q, params.limit))
        return orjson.dumps({"bundle": served.run, "items": items})

    async def search_users(self, request: Request) -> bytes:
        """Users by the beginning of their id."""
        params: schemas.SearchParams = request.params()
        served = self._choice.served(params.bundle)
        users = await self._aside(lambda: served.browse.search_users(params.q, params.limit))
        return orjson.dumps({"bundle": served.run, "users": users})

    async def fields(self, request: Request) -> bytes:
        """The item fields with their most frequent values, or their range: what filters may ask for."""
        params: BundleParams = request.params()
        served = self._choice.served(params.bundle)
        fields = await self._aside(lambda: served.browse.fields)
        return orjson.dumps({"bundle": served.run, "fields": fields})

    async def item_map(self, request: Request) -> bytes:
        """Where the items lie in two dimensions, with the values of one field."""
        params: schemas.MapParams = request.params()
        served = self._choice.served(params.bundle)
        return await self._aside(lambda: orjson.dumps({"bundle": served.run, **served.browse.map(params.field)}))

    async def _aside(self, work: Callable[[], T]) -> T:
        async with self._turn:
            return await asyncio.to_thread(work)


def routes(api: BrowseApi) -> list[Route]:
    """All operations."""
    asked = (*ALWAYS, 404, 422)

    def get(path: str, handle: Any, response: Any, params: Any) -> Route:
        return Route("GET", path, handle, response, params, errors=asked)

    return [
        get("/v1/items", api.search_items, schemas.ItemsResponse, schemas.SearchParams),
        get("/v1/users", api.search_users, schemas.UsersResponse, schemas.SearchParams),
        get("/v1/fields", api.fields, schemas.FieldsResponse, BundleParams),
        get("/v1/map", api.item_map, schemas.MapResponse, schemas.MapParams),
    ]
