"""The JSON schema of a filter, for the OpenAPI document; serving/filters.py checks filters, with better messages."""

from typing import Any

NAME = "Filter"
REF = f"#/components/schemas/{NAME}"
_VALUE = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}
_PARTS = {"type": "array", "items": {"$ref": REF}, "minItems": 1}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_FIELD = {"type": "string", "description": "One of `item_fields` of GET /v1/bundle."}

SCHEMA: dict[str, Any] = {
    "title": NAME,
    "description": "What the items must fulfil, whose values are those of the item fields. A multi field matches when "
    "any of its values does; null stands for no value; ranges are for numeric fields.",
    "anyOf": [
        _object({"and": _PARTS}, ["and"]),
        _object({"or": _PARTS}, ["or"]),
        _object({"not": {"$ref": REF}}, ["not"]),
        _object({"field": _FIELD, "in": {"type": "array", "items": _VALUE}}, ["field", "in"]),
        _object({"field": _FIELD, "eq": _VALUE}, ["field", "eq"]),
        {
            **_object(
                {"field": _FIELD, **{bound: {"type": "number"} for bound in ("gt", "gte", "lt", "lte")}}, ["field"]
            ),
            "minProperties": 2,
        },
    ],
}
