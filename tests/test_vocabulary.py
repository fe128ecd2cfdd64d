"""pipeline/vocabulary.py: strings <-> indices, 0 for everything unknown."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.vocabulary import Vocabulary

VALUES = st.lists(st.text(max_size=4), unique=True, max_size=12)


def vocabulary(values: list[str]) -> Vocabulary:
    return Vocabulary(pa.array(values, pa.string()), np.arange(len(values), dtype=np.int64))


@given(VALUES, st.lists(st.text(max_size=4) | st.none()))
def test_encode_gives_the_position_plus_one_and_0_for_the_unknown(values, asked):
    known = {value: position + 1 for position, value in enumerate(values)}
    encoded = vocabulary(values).encode(pa.array(asked, pa.string()))
    assert encoded.tolist() == [known.get(value, 0) for value in asked]
    assert encoded.dtype == np.int32


@given(VALUES)
def test_decode_and_value_undo_encode_and_index(values):
    v = vocabulary(values)
    assert v.decode(v.encode(values)).to_pylist() == values
    assert [v.value(v.index(value)) for value in values] == values
    assert v.size == len(values) + 1


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_encode_takes_every_arrow_string_whole_or_in_chunks(kind):
    chunks = pa.chunked_array([pa.array(["b", None]).cast(kind), pa.array(["a", "x"]).cast(kind)])
    v = vocabulary(["a", "b"])
    assert v.encode(chunks).tolist() == [2, 0, 1, 0]
    assert v.encode(chunks.chunk(0)).tolist() == [2, 0]


def test_encode_takes_an_iterable():
    assert vocabulary(["a", "b"]).encode(iter(["b", "c"])).tolist() == [2, 0]


def test_nothing_is_encoded_to_nothing():
    assert vocabulary(["a"]).encode([]).shape == (0,)
    assert vocabulary([]).encode(["a"]).tolist() == [0]


def test_the_empty_string_is_a_value_like_any_other():
    v = vocabulary(["a", ""])
    assert v.index("") == 2
    assert v.value(2) == ""


@pytest.mark.parametrize("index", [-1, 0, 3])
def test_an_index_outside_has_no_value(index):
    with pytest.raises(IndexError):
        vocabulary(["a", "b"]).value(index)


@pytest.mark.parametrize("index", [-1, 0, 3])
def test_an_index_outside_cannot_be_decoded(index):
    with pytest.raises(IndexError):
        vocabulary(["a", "b"]).decode(np.array([1, index]))


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 5), max_size=12))
def test_from_counts_orders_by_count_then_value(counts):
    v = Vocabulary.from_counts(list(counts), counts.values())
    expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(zip(v.values.to_pylist(), v.counts.tolist(), strict=True)) == expected


def test_it_survives_a_file(tmp_path):
    v = Vocabulary.from_counts(["ä", "", "z"], [1, 5, 3])
    v.write(tmp_path / "v.parquet")
    again = Vocabulary.read(tmp_path / "v.parquet")
    assert again.values.to_pylist() == ["", "z", "ä"]
    assert again.counts.tolist() == [5, 3, 1]
    assert pq.read_schema(tmp_path / "v.parquet").names == ["value", "count"]


def test_an_empty_one_survives_a_file(tmp_path):
    vocabulary([]).write(tmp_path / "v.parquet")
    assert Vocabulary.read(tmp_path / "v.parquet").size == 1
