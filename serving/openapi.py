"""The OpenAPI document, made from the same types that check the requests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving import filter_schema
from serving.route import Route
from serving.schemas import ErrorResponse

REF = "#/components/schemas/{model}"
MEANINGS = {
    400: "The body is not JSON, or the request is not HTTP.",
    401: "No API key, or an unknown one.",
    403: "The key may not do this.",
    404: "The bundle does not know the user or item, or does without what was asked for.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    422: "The request asks for the impossible.",
    431: "The header, with the path and its query, is too large.",
    429: "The key's rate is used up; see Retry-After.",
    503: "Overloaded, or not ready; see Retry-After.",
}


def document(routes: Sequence[Route], with_keys: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of the routes; with_keys: requests need an API key."""
    models: list[type[BaseModel]] = [ErrorResponse]
    models += [model for route in routes for model in (route.body, route.response) if model is not None]
    _, schemas = models_json_schema([(model, "validation") for model in dict.fromkeys(models)], ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, with_keys)
    parts: dict[str, Any] = {"schemas": {**schemas["$defs"], filter_schema.NAME: filter_schema.SCHEMA}}
    if with_keys:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    title = "Item retrieval"
    info = {"title": title, "version": "1", "description": "Top-K items of a two-tower model."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": parts}


def _operation(route: Route, with_keys: bool) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(route.response)}} if route.response else {"text/plain": {}}
    statuses = [status for status in route.errors if with_keys or status not in (401, 403, 429)]
    error = {"application/json": {"schema": _ref(ErrorResponse)}}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            str(route.status): {"description": route.answer, "content": content},
            **{str(status): {"description": MEANINGS[status], "content": error} for status in statuses},
        },
    }
    if route.parameters:
        operation["parameters"] = route.parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.body)}}}
    if with_keys and not route.open:
        operation["security"] = [{"key": []}]
    return operation


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
