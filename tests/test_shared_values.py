"""ssl_tasks/shared_values.py against the sets themselves."""

import numpy as np
import pytest

from ssl_tasks.shared_values import SharedValues
from towers.keras import keras, tf

MISSING = 4
GENRE = np.array([0, 1, 2, 1, 1, MISSING, MISSING, 3, 0, 2], np.int32)
TAGS = np.array([[0, 0, 0], [1, 2, 3], [1, 2, 0], [3, 0, 0], [MISSING, 0, 0], [1, 2, 3], [6, 0, 0], [MISSING, 0, 0]])


def related(column: np.ndarray) -> np.ndarray:
    """bool [R, R]: does another item share a value."""
    sets = [set(np.atleast_1d(values).tolist()) - {0, MISSING} for values in column]
    return np.array([[bool(a & b) and i != j for j, b in enumerate(sets)] for i, a in enumerate(sets)])


def drawn(column: np.ndarray, times: int) -> np.ndarray:
    """How often each item was drawn for each: [R, R], and column 0 where there was none."""
    keras.utils.set_random_seed(5)
    anchors = np.repeat(np.arange(len(column)), times).astype(np.int32)
    items, valid = tf.function(SharedValues(column, MISSING).draw)(tf.constant(anchors))
    np.testing.assert_array_equal(items.numpy() > 0, valid.numpy())
    counts = np.zeros((len(column), len(column)), int)
    np.add.at(counts, (anchors, items.numpy()), 1)
    return counts


@pytest.mark.parametrize("column", [GENRE, TAGS], ids=["categorical", "multi"])
def test_a_positive_is_uniform_over_the_items_that_share_a_value(column):
    expected = related(column)
    counts = drawn(column, 3000)
    alone = ~expected.any(axis=1)
    np.testing.assert_array_equal(counts[:, 0] > 0, alone)
    share = counts[~alone] / 3000
    uniform = expected[~alone] / expected[~alone].sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(share > 0, uniform > 0)
    np.testing.assert_allclose(share, uniform, atol=0.04)


@pytest.mark.parametrize("column", [GENRE, TAGS], ids=["categorical", "multi"])
def test_related_items_are_those_that_share_a_value(column):
    rows = tf.range(len(column))
    others = tf.tile(rows[tf.newaxis], (len(column), 1))
    found = SharedValues(column, MISSING).related(rows, others).numpy()
    expected = related(column)
    np.fill_diagonal(found, False)
    np.testing.assert_array_equal(found, expected)


def test_a_huge_category_is_drawn_from_without_its_pairs():
    column = np.ones(300_000, np.int32)
    column[0] = 0
    keras.utils.set_random_seed(1)
    items, valid = SharedValues(column, MISSING).draw(tf.constant([1, 299_999] * 500, tf.int32))
    assert valid.numpy().all()
    assert len(np.unique(items)) > 900
    assert np.median(items) == pytest.approx(150_000, rel=0.15)


def test_a_field_without_any_value_relates_nobody():
    shared = SharedValues(np.zeros((5, 2), np.int32), MISSING)
    items, valid = shared.draw(tf.range(5))
    assert not items.numpy().any()
    assert not valid.numpy().any()
    assert not shared.related(tf.range(5), tf.ones((5, 3), tf.int32)).numpy().any()
