"""Filters on item fields: a typed expression tree, and its JSON form.

    {"field": "genres", "in": ["Comedy", "Drama"]}     {"field": "genres", "eq": "Comedy"}
    {"field": "year", "gte": 1990, "lt": 2000}         {"field": "year", "eq": null}
    {"and": [..]}    {"or": [..]}    {"not": {..}}

A multi field matches when any of its values does. Null, or "" of a categorical or multi field, stands for no value. A
missing number is in no range, so that `not` of a range contains it.

Equal filters that are written differently (order, repetition, nesting, `gt` or `gte`) mostly become equal trees, which
makes a tree the key of a cache.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pipeline.errors import RequestError, nearest

Kind = Literal["categorical", "multi", "numeric"]
Value = str | float | None
MAX_DEPTH, MAX_CONDITIONS, MAX_VALUES = 16, 64, 10_000
"""Of one filter: levels of nesting; conditions, each of which is a pass over all items; values in all of its lists."""
BOUNDS = ("gt", "gte", "lt", "lte")


@dataclass(frozen=True)
class In:
    """The field has one of the values (sorted, distinct); None is the missing value. Numeric fields hold floats."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """The numeric field is at least `low` and at most `high`."""

    field: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class And:
    """All parts hold."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Filter"


Filter = In | Range | And | Or | Not


def parse_filter(json_value: Any, item_fields: Mapping[str, Kind], path: str = "filter") -> Filter:
    """A filter from its JSON form.

    Args:
      json_value: what a JSON parser gives.
      item_fields: the kind of each field; `Bundle.items.kinds`.
      path: what error messages call the value.
    Raises RequestError naming the path inside the filter, what is wrong there, and the nearest field name.
    """
    return _Parser(item_fields).parse(json_value, path, 1)


class _Parser:
    """Counts what one filter asks for."""

    def __init__(self, item_fields: Mapping[str, Kind]) -> None:
        self._kinds, self._conditions, self._values = item_fields, 0, 0

    def parse(self, value: Any, path: str, depth: int) -> Filter:
        if not isinstance(value, Mapping):
            _refuse(path, f"must be an object such as {{'field': .., 'in': [..]}}, not {_name(value)}")
        if depth > MAX_DEPTH:
            _refuse(path, f"is nested more than {MAX_DEPTH} levels deep")
        if "field" in value:
            return self._condition(value, path)
        if len(value) != 1 or (operator := next(iter(value))) not in ("and", "or", "not"):
            _refuse(path, f"must have one of the keys `and`, `or`, `not`, `field`, not {sorted(map(str, value))}")
        if operator == "not":
            return _not(self.parse(value["not"], f"{path}.not", depth + 1))
        parts = value[operator]
        if not isinstance(parts, list) or not parts:
            _refuse(f"{path}.{operator}", "must be a list of at least one filter")
        parsed = [self.parse(part, f"{path}.{operator}[{i}]", depth + 1) for i, part in enumerate(parts)]
        return _join(And if operator == "and" else Or, parsed)

    def _condition(self, value: Mapping[str, Any], path: str) -> Filter:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            _refuse(path, f"is one condition too many: a filter may have {MAX_CONDITIONS}")
        field = value["field"]
        if not isinstance(field, str) or field not in self._kinds:
            known = sorted(self._kinds)
            near = nearest(field, known) if isinstance(field, str) else ""
            _refuse(f"{path}.field", f"unknown item field {field!r}.{near} The fields are {known}")
        operators = sorted(str(key) for key in value if key != "field")
        if operators in (["eq"], ["in"]):
            return self._membership(field, value, path)
        if operators and set(operators) <= set(BOUNDS):
            return self._range(field, value, path)
        return _refuse(path, f"needs `in`, `eq`, or bounds among {', '.join(BOUNDS)} beside `field`, not {operators}")

    def _membership(self, field: str, value: Mapping[str, Any], path: str) -> In:
        values = value["in"] if "in" in value else [value["eq"]]
        if not isinstance(values, list):
            _refuse(f"{path}.in", f"must be a list, not {_name(values)}")
        self._values += len(values)
        if self._values > MAX_VALUES:
            _refuse(f"{path}.in", f"has too many values: a filter may list {MAX_VALUES}")
        parse = _number_or_null if self._kinds[field] == "numeric" else _string_or_null
        places = [f"{path}.in[{i}]" for i in range(len(values))] if "in" in value else [f"{path}.eq"]
        distinct = {parse(each, place) for each, place in zip(values, places, strict=True)}
        return In(field, tuple(sorted(distinct, key=lambda each: (each is not None, each))))

    def _range(self, field: str, value: Mapping[str, Any], path: str) -> Range:
        if self._kinds[field] != "numeric":
            _refuse(path, f"asks for a range of `{field}`, which is {self._kinds[field]}, not numeric")
        low, high = -math.inf, math.inf
        for name in BOUNDS:
            if name in value:
                bound = _number(value[name], f"{path}.{name}")
                if name.startswith("g"):  # the next float makes an open bound a closed one
                    low = max(low, bound if name == "gte" else math.nextafter(bound, math.inf))
                else:
                    high = min(high, bound if name == "lte" else math.nextafter(bound, -math.inf))
        return Range(field, float(low), float(high))


def _not(part: Filter) -> Filter:
    return part.part if isinstance(part, Not) else Not(part)


def _join(kind: type[And] | type[Or], parts: list[Filter]) -> Filter:
    flat: dict[Filter, None] = {}
    for part in parts:
        flat |= dict.fromkeys(part.parts if isinstance(part, And | Or) and isinstance(part, kind) else (part,))
    return next(iter(flat)) if len(flat) == 1 else kind(tuple(sorted(flat, key=repr)))


def _string_or_null(value: Any, path: str) -> str | None:
    if not isinstance(value, str | None):
        _refuse(path, f"must be a string or null, not {_name(value)}")
    return value or None


def _number_or_null(value: Any, path: str) -> float | None:
    return None if value is None else _number(value, path)


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        _refuse(path, f"must be a finite number, not {value if isinstance(value, float) else _name(value)}")
    limit = sys.float_info.max
    return float(min(max(value, -limit), limit)) + 0.0  # JSON integers have no limit; -0.0 is 0.0


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _refuse(path: str, problem: str) -> NoReturn:
    raise RequestError(f"`{path}`: {problem}")
