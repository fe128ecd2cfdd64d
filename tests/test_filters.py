"""Filters from JSON: what is refused and how, and which filters are the same."""

from typing import Any

import pytest
from filter_fixture import KINDS, filters
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RequestError
from serving.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, And, In, Not, Or, Range, parse_filter

X, Y = {"field": "brand", "eq": "x"}, {"field": "brand", "eq": "y"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (X, In("brand", ("x",))),
        ({"field": "tags", "in": ["b", "a", "b"]}, In("tags", ("a", "b"))),
        ({"field": "brand", "in": ["", None, "x"]}, In("brand", (None, "x"))),
        ({"field": "price", "in": [2, 1.5, None]}, In("price", (None, 1.5, 2.0))),
        ({"field": "price", "gte": 1, "lte": 2}, Range("price", 1.0, 2.0)),
        ({"field": "price", "gt": 0}, Range("price", 5e-324)),
        ({"field": "price", "lt": 1}, Range("price", high=1 - 2**-53)),
        ({"field": "price", "gte": 1, "gt": 3, "lte": 9, "lt": 9.5}, Range("price", 3.0000000000000004, 9.0)),
        ({"and": [X, Y]}, And((In("brand", ("x",)), In("brand", ("y",))))),
        ({"or": [X, Y]}, Or((In("brand", ("x",)), In("brand", ("y",))))),
        ({"not": X}, Not(In("brand", ("x",)))),
    ],
)
def test_json_becomes_a_tree(value: dict[str, Any], expected: object) -> None:
    assert parse_filter(value, KINDS) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"and": [X, Y]}, {"and": [Y, X, Y]}),
        ({"or": [X, {"or": [Y, X]}]}, {"or": [X, Y]}),
        ({"and": [X]}, X),
        ({"not": {"not": X}}, X),
        ({"field": "brand", "eq": ""}, {"field": "brand", "in": [None]}),
        ({"field": "price", "eq": -0.0}, {"field": "price", "in": [0]}),
        ({"field": "price", "gte": -0.0}, {"field": "price", "gte": 0}),
    ],
)
def test_the_same_filter_written_differently_is_one_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert repr(parse_filter(one, KINDS)) == repr(parse_filter(other, KINDS))
    assert hash(parse_filter(one, KINDS)) == hash(parse_filter(other, KINDS))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"`filter`: must be an object .* not null"),
        ([X], r"`filter`: must be an object .* not list"),
        ({}, r"`filter`: must have one of the keys `and`, `or`, `not`, `field`, not \[\]"),
        ({"and": [X], "or": [Y]}, r"`filter`: must have one of the keys"),
        ({"xor": [X]}, r"not \['xor'\]"),
        ({"and": []}, r"`filter\.and`: must be a list of at least one filter"),
        ({"or": X}, r"`filter\.or`: must be a list"),
        ({"and": [X, {"not": 3}]}, r"`filter\.and\[1\]\.not`: must be an object .* not int"),
        (
            {"or": [{"field": "brnad", "eq": "x"}]},
            r"`filter\.or\[0\]\.field`: unknown item field 'brnad'\. Did you mean",
        ),
        ({"field": ["brand"], "eq": "x"}, r"`filter\.field`: unknown item field \['brand'\]"),
        ({"field": "brand"}, r"`filter`: needs `in`, `eq`, or bounds .* not \[\]"),
        ({"field": "brand", "eq": "x", "in": ["x"]}, r"not \['eq', 'in'\]"),
        ({"field": "brand", "is": "x"}, r"not \['is'\]"),
        ({"field": "brand", "in": "x"}, r"`filter\.in`: must be a list, not str"),
        ({"field": "brand", "in": ["x", 3]}, r"`filter\.in\[1\]`: must be a string or null, not int"),
        ({"field": "brand", "gt": 3}, r"`filter`: asks for a range of `brand`, which is categorical"),
        ({"field": "tags", "lt": 3}, r"`filter`: asks for a range of `tags`, which is multi"),
        ({"field": "price", "eq": "3"}, r"`filter\.eq`: must be a finite number, not str"),
        ({"field": "price", "gt": None}, r"`filter\.gt`: must be a finite number, not null"),
        ({"field": "price", "gt": True}, r"`filter\.gt`: must be a finite number, not bool"),
        ({"field": "price", "lt": float("nan")}, r"`filter\.lt`: must be a finite number, not nan"),
        ({"field": "price", "in": [float("inf")]}, r"`filter\.in\[0\]`: must be a finite number, not inf"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_filter(value, KINDS)


def nested(depth: int) -> dict[str, Any]:
    return X if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1)),
        ({"or": [X] * MAX_CONDITIONS}, {"or": [X] * (MAX_CONDITIONS + 1)}),
        ({"field": "tags", "in": ["a"] * MAX_VALUES}, {"field": "tags", "in": ["a"] * (MAX_VALUES + 1)}),
    ],
    ids=["depth", "conditions", "values"],
)
def test_size_is_limited(allowed: object, refused: object) -> None:
    parse_filter(allowed, KINDS)
    with pytest.raises(RequestError, match=r"levels deep|too many"):
        parse_filter(refused, KINDS)


def test_depth_beyond_pythons_own_is_refused() -> None:
    value: dict[str, Any] = X
    for _ in range(100_000):
        value = {"not": value}
    with pytest.raises(RequestError, match="levels deep"):
        parse_filter(value, KINDS)
    while "not" in value:  # taken apart by hand, for Python frees it recursively
        value = value["not"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["and", "or", "not", "field", "in", "eq", "gt", "lte"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON | filters)
def test_any_json_is_a_filter_or_refused(value: object) -> None:
    try:
        found = parse_filter(value, KINDS)
    except RequestError:
        return
    hash(found)
