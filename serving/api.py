"""The operations of the HTTP API, each from a checked request to the bytes of its answer."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import orjson

from pipeline.config_serve import ServeConfig
from pipeline.errors import RequestError
from serving import schemas
from serving.batching import Batcher
from serving.choice import Choice
from serving.errors import NotFoundError, OverloadedError
from serving.events_store import EventsStore, StoredEvent, StoreError
from serving.filters import Filter, parse_filter
from serving.fresh import overlap
from serving.metrics import Metrics
from serving.protection import Gate
from serving.refusal import clean
from serving.retriever import Query, Retrieved
from serving.route import ALWAYS, WITH_BODY, Request, Route
from serving.served import Served

PLAIN = b"text/plain; version=0.0.4; charset=utf-8"


class Api:
    """What one worker answers. It captures the served bundle once a request, so that a swap never mixes two."""

    def __init__(
        self,
        limits: ServeConfig,
        choice: Choice,
        store: EventsStore | None,
        metrics: Metrics,
        gate: Gate,
    ) -> None:
        self._limits, self._choice, self._store = limits, choice, store
        self._metrics, self._gate = metrics, gate
        self.batcher = Batcher(limits.max_queue, limits.max_batch, limits.queue_seconds, self._batched)

    def recommend(self, request: Request) -> bytes | Awaitable[bytes]:
        """The best items for a user: one the bundle knows, or anybody by history and features, or both."""
        body: schemas.RecommendRequest = request.content()
        served = self._choice.served(body.bundle)
        recent, about = self._recent(body.user_id), {"bundle": served.run}
        if isinstance(recent, list):
            return self._recommended(served, body, recent, about, request.lone)
        return self._recommended_later(served, body, recent, about)

    async def recommend_batch(self, request: Request) -> bytes:
        """Recommend to several users at once. A request that cannot be answered does not spoil the others."""
        content: schemas.BatchRequest = request.content()
        asked = content.requests
        self._gate.take(request.caller, len(asked) - 1, before=1)  # which was taken at the door
        self.batcher.check_room(len(asked))
        served = self._choice.served(content.bundle)
        results = await asyncio.gather(*(self._result(served, body) for body in asked))
        return b'{"bundle":' + orjson.dumps(served.run) + b',"results":[' + b",".join(results) + b"]}"

    async def similar(self, request: Request) -> bytes:
        """The items nearest to the item, by their vectors, by sessions or by titles; itself not among them."""
        params: schemas.SimilarParams = request.params()
        served, item_id = self._choice.served(params.bundle), unquote(request.path_id)
        k = self._k(params)
        chosen = _filter(served, params.filter)
        if params.kind == "embedding":
            found = served.retriever.similar(item_id, k, params.exclude, chosen)
            indices, scores = found.items, found.scores
        else:
            indices, scores = served.browse.neighbours(item_id, params.kind)
            kept = served.retriever.allowed_items(indices, params.exclude, chosen).nonzero()[0][:k]
            indices, scores = indices[kept], scores[kept]
        about = {"bundle": served.run, "item_id": item_id, "kind": params.kind}
        return served.writer.write(about, indices, scores, params.field)

    async def item(self, request: Request) -> bytes:
        """An item's title and fields."""
        params: schemas.BundleParams = request.params()
        return orjson.dumps(self._choice.served(params.bundle).retriever.item(unquote(request.path_id)))

    async def user(self, request: Request) -> bytes:
        """A user's fields and most recent items, as the bundle knows them."""
        params: schemas.UserParams = request.params()
        served = self._choice.served(params.bundle)
        return orjson.dumps(served.retriever.user(unquote(request.path_id), params.recent))

    async def events(self, request: Request) -> bytes:
        """Tell what users clicked since the bundle was made; the next recommendation for them sees it."""
        body: schemas.EventsRequest = request.content()
        assert self._store is not None
        now = time.time()
        events = [
            StoredEvent(event.user_id, event.item_id, now if event.timestamp is None else min(event.timestamp, now))
            for event in body.events
        ]
        try:
            await self._store.append(events)
        except StoreError as error:
            self._metrics.add("event_store_failures")
            raise OverloadedError(f"the events could not be kept ({error}). Cure: send them again", 1) from error
        self._metrics.add("events", len(events))
        _, unknown = self._choice.main.served.retriever.bundle.items.split([event.item_id for event in events])
        return orjson.dumps({"accepted": len(events), "unknown_items": list(dict.fromkeys(unknown))})

    async def bundle(self, request: Request) -> bytes:
        """Which bundle is served, what it can do, and what became of the last attempt to load another."""
        params: schemas.BundleParams = request.params()
        reloader, compare = self._choice.reloader(params.bundle), self._choice.compared is not None
        info = reloader.served.retriever.info()
        return orjson.dumps({**info, "compare": compare, "max_k": self._limits.max_k, "reload": reloader.last})

    def health(self, request: Request) -> bytes:
        """Whether the process runs. A process that does not answer wants to be restarted."""
        return b'{"status":"ok"}'

    def ready(self, request: Request) -> bytes:
        """Whether to send requests here: 503 while the queue is full."""
        if self.batcher.full():
            raise OverloadedError("the queue is full", 1)
        return orjson.dumps({"status": "ready", "bundle": self._choice.main.served.run})

    async def reload(self, request: Request) -> bytes:
        """Look for a newly published bundle at once, and take it into service."""
        main = self._choice.main
        before, last = main.served.run, main.last
        for reloader in self._choice.reloaders:
            await reloader.check(again=True)
        main.tell_the_others()
        error = None if main.last is last else main.last["error"]  # of this attempt, if there was one
        return orjson.dumps({"bundle": main.served.run, "changed": main.served.run != before, "error": error})

    async def metrics(self, request: Request) -> bytes:
        """What all workers counted, in the text format of Prometheus."""
        return self._metrics.text().encode()

    async def _result(self, served: Served, body: schemas.Asked) -> bytes:
        try:
            return await self._recommended_later(served, body, self._recent(body.user_id), {})
        except OverloadedError:
            raise
        except RequestError as error:
            code = "not_found" if isinstance(error, NotFoundError) else "invalid_request"
            return orjson.dumps({"error": {"code": code, "message": clean(str(error))}})

    async def _recommended_later(
        self,
        served: Served,
        body: schemas.Asked,
        recent: list[str] | Awaitable[list[str]],
        about: dict[str, Any],
    ) -> bytes:
        answer = self._recommended(served, body, recent if isinstance(recent, list) else await recent, about)
        return answer if isinstance(answer, bytes) else await answer

    def _recommended(
        self,
        served: Served,
        body: schemas.Asked,
        recent: list[str],
        about: dict[str, Any],
        lone: bool = False,
    ) -> bytes | Awaitable[bytes]:
        """The answer, beginning with `about`; the user's fresh items are put before the request's own history."""
        k = self._k(body)
        served.retriever.bundle.items.check_fields(body.fields)
        fresh = _fresh(served, body.user_id, recent) if recent else []
        history = body.history if not fresh else [*fresh, *(body.history or ())]
        chosen = _filter(served, body.filter)
        query = Query(body.user_id, history, body.features, k, body.exclude_seen, body.exclude, chosen)

        def write(found: Retrieved) -> bytes:
            head = {**about, **_facts(found, len(fresh))}
            return served.writer.write(head, found.items, found.scores, body.fields, body.titles)

        return self.batcher.submit(served.retriever, query, write, lone)

    def _recent(self, user_id: str | None) -> list[str] | Awaitable[list[str]]:
        """What the store keeps of a user; nothing when it does not answer."""
        if self._store is None or user_id is None:
            return []
        try:
            recent = self._store.recent(user_id)
        except StoreError:
            self._metrics.add("event_store_failures")
            return []
        return recent if isinstance(recent, list) else self._recent_later(recent)

    async def _recent_later(self, recent: Awaitable[list[str]]) -> list[str]:
        try:
            return await recent
        except StoreError:
            self._metrics.add("event_store_failures")
            return []

    def _k(self, asked: schemas.Asked | schemas.SimilarParams) -> int:
        if asked.k <= self._limits.max_k:
            return asked.k
        if "k" not in asked.model_fields_set:  # the schema's default is more than this server gives
            return self._limits.max_k
        raise RequestError(f"`k` must be at most {self._limits.max_k} (`serve.max_k`), not {asked.k}")

    def _batched(self, size: int) -> None:
        self._metrics.add("batches")
        self._metrics.add("batched", size)


def _filter(served: Served, value: dict[str, Any] | None) -> Filter | None:
    return None if value is None else parse_filter(value, served.retriever.bundle.items.kinds)


def _facts(found: Retrieved, fresh: int) -> dict[str, Any]:
    """What is said of a recommendation beside its items."""
    return {
        "known_user": found.known_user,
        "history_length": len(found.history),
        "fresh": fresh,
        "ignored": found.ignored,
    }


def _fresh(served: Served, user_id: str | None, recent: list[str]) -> list[str]:
    """Ids of the known items that the user has seen and the bundle does not know of, oldest first."""
    bundle = served.retriever.bundle
    items, unknown = bundle.items.split(recent)
    known = [item_id for item_id in recent if item_id not in unknown]
    with suppress(NotFoundError):
        history = bundle.users.history(bundle.users.index(user_id or ""))
        return known[overlap(history, items.tolist()) :]
    return known


def routes(api: Api, with_events: bool) -> list[Route]:
    """All operations. Health and readiness need no key, since load balancers have none."""
    sent, asked, open_to_all = (*ALWAYS, *WITH_BODY, 404, 422), (*ALWAYS, 404, 422), (400, 431)

    def get(path: str, handle: Any, response: Any, params: Any = None, **more: Any) -> Route:
        return Route("GET", path, handle, response, params, **{"errors": asked, **more})

    def post(path: str, handle: Any, response: Any, body: Any, **more: Any) -> Route:
        return Route("POST", path, handle, response, body=body, errors=sent, **more)

    full, batch = api.batcher.full, "/v1/recommend/batch"
    found = [
        post("/v1/recommend", api.recommend, schemas.RecommendResponse, schemas.RecommendRequest, full=full),
        post(batch, api.recommend_batch, schemas.BatchResponse, schemas.BatchRequest, full=full),
        get("/v1/items/{item_id}/similar", api.similar, schemas.SimilarResponse, schemas.SimilarParams),
        get("/v1/items/{item_id}", api.item, schemas.ItemResponse, schemas.BundleParams),
        get("/v1/users/{user_id}", api.user, schemas.UserResponse, schemas.UserParams),
        get("/v1/bundle", api.bundle, schemas.BundleResponse, schemas.BundleParams),
        get("/v1/health", api.health, schemas.HealthResponse, errors=open_to_all, open=True),
        get("/v1/ready", api.ready, schemas.ReadyResponse, errors=(*open_to_all, 503), open=True),
        Route("POST", "/v1/admin/reload", api.reload, schemas.ReloadResponse, errors=(*ALWAYS, 403), admin=True),
        get("/metrics", api.metrics, None, errors=(*ALWAYS, 403), admin=True, content_type=PLAIN),
    ]
    if with_events:
        found.append(post("/v1/events", api.events, schemas.EventsResponse, schemas.EventsRequest, status=202))
    return found
