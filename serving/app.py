"""The HTTP server over one bundle: FastAPI routes, every answer written as bytes by orjson."""

import socket
from contextlib import suppress
from typing import Annotated, Any

import orjson
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.config import ServeConfig
from pipeline.errors import ConfigError, RequestError
from pipeline.storage import Location
from serving import schemas
from serving.bundle import Bundle
from serving.errors import NotFoundError
from serving.retriever import Query as UserQuery
from serving.retriever import Retrieved, Retriever

SCORE_DECIMALS = 6
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.ErrorResponse, "description": "The body is not JSON."},
    404: {"model": schemas.ErrorResponse, "description": "The bundle does not know the user or item."},
    422: {"model": schemas.ErrorResponse, "description": "The request asks for the impossible."},
}


def create_app(bundle_path: Location | str, limits: ServeConfig | None = None) -> FastAPI:
    """Build the server over the bundle at a path.

    Handlers run on the event loop, one request at a time: a process answers from one core, and more cores take
    more processes. Raises ArtifactError when the bundle cannot be served.
    """
    app = FastAPI(title="Item retrieval", version="1", description="Top-K items of a two-tower model.")
    app.state.retriever = Retriever(Bundle.open(bundle_path))
    app.state.limits = limits or ServeConfig()
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    for path, handler, model in (
        ("/v1/items/{item_id:path}/similar", similar, schemas.SimilarResponse),
        ("/v1/items/{item_id:path}", item, schemas.ItemResponse),
        ("/v1/users/{user_id:path}", user, schemas.UserResponse),
        ("/v1/bundle", bundle, schemas.BundleResponse),
        ("/v1/health", health, schemas.HealthResponse),
    ):
        app.add_api_route(path, handler, responses={200: {"model": model}, **ERRORS}, response_class=Response)
    app.add_api_route(
        "/v1/recommend",
        recommend,
        methods=["POST"],
        responses={200: {"model": schemas.RecommendResponse}, **ERRORS},
        response_class=Response,
    )
    return app


async def recommend(request: Request, body: schemas.RecommendRequest) -> Response:
    """The best items for a user: one the bundle knows, or anybody by history and features, or both."""
    retriever = _retriever(request, body.k, body.fields)
    query = UserQuery(body.user_id, body.history, body.features, body.k, body.exclude_seen, body.exclude)
    found = retriever.recommend(query)
    return _json(
        {
            "bundle": _run(retriever),
            "known_user": found.known_user,
            "history_length": len(found.history),
            "ignored": found.ignored,
            "items": _ranked(retriever, found, body.fields),
        }
    )


async def similar(
    request: Request,
    item_id: str,
    field: Annotated[list[str], Query(default_factory=list, max_length=schemas.MAX_FIELDS)],
    k: Annotated[int, Query(ge=1)] = 50,
) -> Response:
    """The items whose vectors are nearest to the item's by cosine, the item itself not among them."""
    retriever = _retriever(request, k, field)
    found = retriever.similar(item_id, k)
    return _json({"bundle": _run(retriever), "item_id": item_id, "items": _ranked(retriever, found, field)})


async def item(request: Request, item_id: str) -> Response:
    """An item's title and fields."""
    return _json(request.app.state.retriever.item(item_id))


async def user(request: Request, user_id: str, recent: Annotated[int, Query(ge=0, le=1000)] = 20) -> Response:
    """A user's fields and most recent items."""
    return _json(request.app.state.retriever.user(user_id, recent))


async def bundle(request: Request) -> Response:
    """Which bundle is served, and what it can do."""
    return _json({**request.app.state.retriever.info(), "max_k": request.app.state.limits.max_k})


async def health(request: Request) -> Response:
    """Whether the server can answer."""
    return _json({"status": "ok", "bundle": _run(request.app.state.retriever)})


def serve(bundle_path: Location | str, limits: ServeConfig | None = None) -> None:
    """Serve a bundle until interrupted; prints the URL once requests are accepted. Port 0 takes a free one.

    Raises ArtifactError when the bundle cannot be served, ConfigError when the address cannot be bound.
    """
    limits = limits or ServeConfig()
    app = create_app(bundle_path, limits)
    listener = _listen(limits.host, limits.port)
    host = f"[{limits.host}]" if ":" in limits.host else limits.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    server = _Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.greeting = f"Serving {bundle_path} at {url} (docs at /docs). Stop with Ctrl-C."
    with suppress(KeyboardInterrupt):  # raised again by uvicorn once it has shut down
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Prints a line when requests are answered and signals stop it in order."""

    greeting = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.greeting, flush=True)


def _listen(host: str, port: int) -> socket.socket:
    # The protocol must be named: asyncio turns Nagle's delay of 40 ms off only for sockets that say they are TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        return listener
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot serve at {host}:{port}: {error.strerror}. Cure: another `serve.port`") from None


def _retriever(request: Request, k: int, fields: list[str]) -> Retriever:
    """The retriever of this request, which stays the same throughout it, once k and fields are allowed."""
    retriever: Retriever = request.app.state.retriever
    if k > request.app.state.limits.max_k:
        raise RequestError(f"`k` must be at most {request.app.state.limits.max_k} (`serve.max_k`), not {k}")
    retriever.bundle.items.check_fields(fields)
    return retriever


def _ranked(retriever: Retriever, found: Retrieved, fields: list[str]) -> list[dict[str, Any]]:
    records = retriever.bundle.items.describe(found.items, fields)
    scores = found.scores.astype("float64").round(SCORE_DECIMALS).tolist()
    for record, score in zip(records, scores, strict=True):
        record["score"] = score
    return records


def _run(retriever: Retriever) -> str:
    artifact = retriever.bundle.artifact
    return artifact.manifest["run"] if artifact else "unpublished"


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    # A lone surrogate in what the message quotes is no UTF-8.
    clean = message.encode("utf-8", "replace").decode()
    return _json({"error": {"code": code, "message": clean}}, status)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
        return _error(422, "invalid_request", "send the body with the header `Content-Type: application/json`")
    if any(problem["type"] == "json_invalid" for problem in problems):
        return _error(400, "not_json", f"the body is not JSON: {problems[0]['ctx']['error']}")
    told = [f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:10]]
    return _error(422, "invalid_request", "; ".join(told))


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, NotFoundError):
        return _error(404, "not_found", str(error))
    return _error(422, "invalid_request", str(error))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, "http_error", str(error.detail))
