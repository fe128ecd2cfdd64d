"""What a route is: where it lives, what it takes and gives, and who may use it."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_origin
from urllib.parse import parse_qs

from pydantic import BaseModel

from serving.errors import MediaTypeError
from serving.protection import Caller

ALWAYS = (400, 401, 429, 431, 503)
WITH_BODY = (408, 413, 415)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(slots=True)
class Request:
    """A request to a route. path_id: the id in its path; body: as it came; json: whether it says that it is JSON.

    lone: nobody else asks: the request before came on the same connection, and has its answer.
    """

    route: "Route"
    path_id: str = ""
    query: bytes = b""
    body: bytes = b""
    json: bool = True
    caller: Caller | None = None
    lone: bool = False

    def params(self) -> Any:
        """The query's parameters, checked. Raises pydantic's ValidationError."""
        model = self.route.params
        assert model is not None
        given = parse_qs(self.query.decode("latin-1"), keep_blank_values=True)
        lists = self.route.list_params
        return model.model_validate({n: values if n in lists else values[-1] for n, values in given.items()})

    def content(self) -> Any:
        """The body, checked. Raises pydantic's ValidationError, MediaTypeError for a body that is not said to be JSON:
        a browser sends such a one from any page, without asking.
        """
        if not self.json:
            raise MediaTypeError("send the body with the header `Content-Type: application/json`")
        assert self.route.body is not None
        return self.route.body.model_validate_json(self.body)


@dataclass(frozen=True)
class Route:
    """One operation of the API.

    path: with at most one {placeholder}. handle: the request -> the bytes of its answer, now or later. params, body:
    of the request. response: of the answer, None for text. errors: the statuses beside `status` that it may answer.
    open: needs no key; admin: needs an administrator's.
    """

    method: str
    path: str
    handle: Callable[[Request], bytes | Awaitable[bytes]]
    response: type[BaseModel] | None
    params: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    status: int = 200
    open: bool = False
    admin: bool = False
    full: Callable[[], bool] | None = None
    """Whether there is no room to wait for an answer, asked before anything else is done for the request."""
    content_type: bytes = b"application/json"

    @property
    def name(self) -> str:
        """For metrics and logs, and the id of the operation."""
        return self.handle.__name__

    @property
    def summary(self) -> str:
        """What it does: the first paragraph of the handler's docstring, in one line."""
        return " ".join((self.handle.__doc__ or "").split("\n\n")[0].split())

    @property
    def answer(self) -> str:
        """What it answers, in words."""
        return " ".join(((self.response and self.response.__doc__) or "Text.").split())

    @cached_property
    def list_params(self) -> set[str]:
        """The parameters that may be repeated."""
        fields = self.params.model_fields if self.params else {}
        return {name for name, info in fields.items() if get_origin(info.annotation) is list}

    @cached_property
    def parameters(self) -> list[dict[str, Any]]:
        """Those of the path and of the query, as OpenAPI writes them."""
        ids = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in _PLACEHOLDER.findall(self.path)
        ]
        schema = self.params.model_json_schema() if self.params else {"properties": {}}
        return ids + [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": dict(of)}
            for name, of in schema["properties"].items()
        ]


@dataclass
class Router:
    """Finds the route of a path. Ids in paths are percent-encoded; a slash in one may be, or not."""

    routes: list[Route]
    _exact: dict[str, dict[str, Route]] = field(default_factory=dict)
    _with_id: list[tuple[str, str, dict[str, Route]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for route in self.routes:
            methods = self._exact.setdefault(route.path, {})
            methods[route.method] = route
        for path in [path for path in self._exact if "{" in path]:
            before, after = _PLACEHOLDER.split(path)[::2]
            self._with_id.append((before, after, self._exact.pop(path)))
        self._with_id.sort(key=lambda entry: -len(entry[0] + entry[1]))

    def find(self, raw_path: str) -> tuple[dict[str, Route], str]:
        """A path as it was sent -> the routes there by method, none if there is nothing, and the id, still encoded."""
        methods = self._exact.get(raw_path)
        if methods is not None:
            return methods, ""
        for before, after, found in self._with_id:
            if raw_path.startswith(before) and raw_path.endswith(after):
                name = raw_path[len(before) : len(raw_path) - len(after)]
                if name:
                    return found, name
        return {}, ""
