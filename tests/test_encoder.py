"""Requests encoded in serving, against the encoding of the training tables."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import encode_multi, encode_numeric
from pipeline.errors import RequestError
from pipeline.vocabulary import Vocabulary
from serving.encoder import UserEncoder, UserField

VALUES = ["x", "", "y", "z"]
VOCABULARY = Vocabulary(pa.array(VALUES, pa.string()), np.ones(4, np.int64))
BOUNDARIES = np.array([-1.5, 0.0, 10.0])
GENDER = UserField("gender", "categorical", 0, VOCABULARY, np.empty(0))
AGE = UserField("age", "numeric", 0, VOCABULARY, BOUNDARIES)
TAGS = UserField("tags", "multi", 3, VOCABULARY, np.empty(0))
ENCODER = UserEncoder(4, (GENDER, AGE, TAGS))


@pytest.mark.parametrize(("value", "index"), [("x", 1), ("", 2), (None, 2), ("z", 4), ("never seen", 0)])
def test_categorical(value: str | None, index: int) -> None:
    assert GENDER.encode(value).tolist() == [index]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.sampled_from(BOUNDARIES.tolist()))
def test_numeric_equals_the_training_encoding(value: float | None) -> None:
    expected = encode_numeric(pa.chunked_array([pa.array([value], pa.float64())]), BOUNDARIES)
    assert AGE.encode(value).tolist() == expected.tolist()


@pytest.mark.parametrize(("value", "bucket"), [(10**400, 4), (-(10**400), 1)])
def test_numeric_takes_integers_of_any_size(value: int, bucket: int) -> None:
    assert AGE.encode(value).tolist() == [bucket]


@given(st.lists(st.sampled_from([*VALUES, "never seen"]), max_size=6) | st.none())
def test_multi_equals_the_training_encoding(value: list[str] | None) -> None:
    expected = encode_multi(pa.chunked_array([pa.array([value, ["x", "y", "z"]], pa.list_(pa.string()))]), VOCABULARY)
    assert TAGS.encode(value).tolist() == [expected[0].tolist()]


def test_multi_takes_no_more_values_than_the_tower() -> None:
    narrow = UserField("tags", "multi", 2, VOCABULARY, np.empty(0))
    assert narrow.encode(["z", "never seen", "y", "x"]).tolist() == [[4, 3]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (GENDER, 1.0),
        (GENDER, ["x"]),
        (AGE, "old"),
        (AGE, True),
        (AGE, math.nan),
        (AGE, math.inf),
        (AGE, []),
        (TAGS, "x"),
        (TAGS, 3),
        (TAGS, ["x", None]),
    ],
)
def test_value_of_another_type_is_refused_by_name(field: UserField, value: object) -> None:
    with pytest.raises(RequestError, match=f"feature `{field.name}` must be"):
        field.encode(value)


def test_unknown_feature_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"unknown feature 'gendre'\. Did you mean `gender`"):
        ENCODER.encode(np.empty(0, np.int32), {"gendre": "x"})


@pytest.mark.parametrize(
    ("history", "padded"),
    [([], [0, 0, 0, 0]), ([7], [0, 0, 0, 7]), ([1, 2, 3, 4], [1, 2, 3, 4]), ([1, 2, 3, 4, 5, 6], [3, 4, 5, 6])],
)
def test_history_keeps_the_most_recent_and_pads_on_the_left(history: list[int], padded: list[int]) -> None:
    inputs = ENCODER.encode(np.array(history, np.int32), {})
    assert inputs["history"].tolist() == [padded]


def test_absent_features_are_missing_ones() -> None:
    absent = ENCODER.encode(np.empty(0, np.int32), {})
    missing = ENCODER.encode(np.empty(0, np.int32), {"gender": None, "age": None, "tags": []})
    assert {k: v.tolist() for k, v in absent.items()} == {k: v.tolist() for k, v in missing.items()}
    assert (absent["gender"].tolist(), absent["age"].tolist(), absent["tags"].tolist()) == ([2], [5], [[2, 0, 0]])
