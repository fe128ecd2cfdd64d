"""JSON Lines: parsing by Arrow and line by line must agree."""

import json
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.columns import parse_multi, parse_number, parse_text
from pipeline.read_jsonl import _by_arrow, column
from pipeline.rejects import Sieve

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBER = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
COLUMNS = st.sampled_from([TEXT, st.integers(-(2**63), 2**63 - 1), NUMBER, st.booleans(), st.lists(TEXT, max_size=3)])


def nullable(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(st.none(), values), min_size=1, max_size=6)


@settings(max_examples=150)
@given(COLUMNS.flatmap(nullable))
def test_both_ways_give_the_same_column(values: list[Any]) -> None:
    lines = [json.dumps({"other": [1, {}], "x": value}, ensure_ascii=i % 2 == 0) for i, value in enumerate(values)]
    arrow = _by_arrow(pa.array(lines, pa.large_string()), ["x"])
    assert arrow is not None
    assert canonical(arrow["x"]) == canonical(column(values))


def canonical(values: pa.Array) -> tuple[Any, ...]:
    """What the importers make of a column: as a field of every kind that fits it."""
    sieves = [Sieve(len(values)) for _ in range(3)]
    multi = parse_multi(values, "x", "|", sieves[0]).to_pylist()
    if pa.types.is_list(values.type):
        return multi, sieves[0].rejected()
    text, number = parse_text(values, "x", sieves[1]).to_pylist(), parse_number(values, "x", sieves[2]).to_pylist()
    return multi, text, number, [sieve.rejected() for sieve in sieves]


def test_mixed_types_become_text_and_lists_of_text() -> None:
    assert column([1, "a", 2.0, 2.5, True, None, float("nan")]).to_pylist() == [
        "1",
        "a",
        "2",
        "2.5",
        "true",
        None,
        None,
    ]
    assert column([["a", 1], "b", None]).to_pylist() == [["a", "1"], ["b"], [None]]
    assert column([2**70, 1]).to_pylist() == [str(2**70), "1"]
    assert column([{"a": "é"}]).to_pylist() == ['{"a": "é"}']


def test_blocks_that_arrow_cannot_type_are_left_to_the_other_way() -> None:
    for lines in (['{"x": 1}', '{"x": "a"}'], ['{"x": 1} {"x": 2}'], ["[1]"], ['{"x": 1}', "no"]):
        assert _by_arrow(pa.array(lines, pa.large_string()), ["x"]) is None
