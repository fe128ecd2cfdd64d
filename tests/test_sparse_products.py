"""Sums by place against NumPy's, on a processor and as a GPU would take them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from towers.keras import tf
from towers.sparse_products import sparse_matrix, sums_by_place, transposed_product

PLACES = arrays.arrays(np.int32, st.integers(1, 40), elements=st.integers(0, 9))


def values_for(places: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(places)).normal(size=(len(places), 3)).astype(np.float32)


def expected(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, places, values.astype(np.float64))
    return sums


@given(PLACES)
def test_every_place_has_the_sum_of_its_values(places):
    values = values_for(places)
    found = sums_by_place(tf.constant(values), tf.constant(places), tf.constant(11))
    assert found.numpy() == pytest.approx(expected(values, places, 11), abs=1e-5)


@pytest.mark.parametrize("count", [0, 5])
def test_of_nothing_the_sums_are_0(count):
    """In a graph, as in a step: there TensorFlow would take the process with it."""
    sums = tf.function(sums_by_place)(tf.zeros((0, 3)), tf.zeros((0,), tf.int32), tf.constant(count))
    assert np.array_equal(sums, np.zeros((count, 3)))


def test_a_gpu_finds_the_same(monkeypatch):
    places = np.array([3, 0, 3, 1], np.int32)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    found = sums_by_place(tf.constant(values_for(places)), tf.constant(places), tf.constant(5))
    assert found.numpy() == pytest.approx(expected(values_for(places), places, 5), abs=1e-6)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_short_types_are_added_up_in_float32(dtype):
    values = tf.ones((4096, 1), dtype)  # one by one, bfloat16 stays at 256, float16 at 2048
    found = sums_by_place(values, tf.zeros(4096, tf.int32), tf.constant(1))
    assert found.dtype == dtype
    assert found.numpy().item() == 4096


def test_a_column_named_twice_in_a_row_has_the_sum_of_its_entries():
    matrix = sparse_matrix(tf.constant([[1, 1], [0, 2]]), tf.constant([[1.0, 2.0], [4.0, 8.0]]), tf.constant(3))
    product = transposed_product(matrix, tf.constant([[1.0], [10.0]]))
    assert product.numpy().ravel().tolist() == [40, 3, 80]
