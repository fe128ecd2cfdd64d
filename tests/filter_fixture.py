"""Random filters in their JSON form, and what they mean, item by item."""

from typing import Any

from hypothesis import strategies as st

KINDS = {"brand": "categorical", "tags": "multi", "price": "numeric"}
BRANDS, TAGS = ["x", "y", "café", ""], ["a", "b", "c"]

strings = {"brand": st.sampled_from([*BRANDS, "nowhere"]) | st.none(), "tags": st.sampled_from([*TAGS, ""]) | st.none()}
prices = st.integers(-3, 12) | st.sampled_from([0.5, -0.0, 1e300, 10**400, -(10**400)])
bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), prices, min_size=1)


def _condition(field: str) -> st.SearchStrategy[dict[str, Any]]:
    values = strings.get(field, prices | st.none())
    equal, member = st.builds(lambda v: {"eq": v}, values), st.builds(lambda v: {"in": v}, st.lists(values, max_size=3))
    operators = equal | member | bounds if field == "price" else equal | member
    return st.builds(lambda operator: {"field": field, **operator}, operators)


conditions = st.sampled_from(sorted(KINDS)).flatmap(_condition)
filters = st.recursive(
    conditions,
    lambda inner: (
        st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda part: {"not": part}, inner)
    ),
    max_leaves=6,
)
items = st.fixed_dictionaries(
    {
        "brand": st.sampled_from(BRANDS) | st.none(),
        "tags": st.lists(st.sampled_from([*TAGS, ""]), max_size=3) | st.none(),
        "price": st.integers(-3, 12).map(float) | st.none(),
    }
)


def fulfils(item: dict[str, Any], filter: dict[str, Any]) -> bool:
    """Whether an item passes a filter, by the words of its definition."""
    if "and" in filter:
        return all(fulfils(item, part) for part in filter["and"])
    if "or" in filter:
        return any(fulfils(item, part) for part in filter["or"])
    if "not" in filter:
        return not fulfils(item, filter["not"])
    value = item[filter["field"]]
    if "in" in filter or "eq" in filter:
        wanted = [each or None if each == "" else each for each in filter.get("in", [filter.get("eq")])]
        if filter["field"] == "tags":
            return any(each in wanted for each in [tag for tag in value or [] if tag] or [None])
        return (None if value == "" else value) in wanted
    tests = {"gt": float.__gt__, "gte": float.__ge__, "lt": float.__lt__, "lte": float.__le__}
    limit = 1.7976931348623157e308
    return value is not None and all(
        tests[name](value, float(max(-limit, min(limit, filter[name])))) for name in tests if name in filter
    )
