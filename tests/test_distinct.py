"""The distinct items of a step, as the reader names them and as the step finds them."""

import numpy as np
import pytest
from tower_fixtures import batch, small_config

from pipeline.dataset import distinct_items
from towers.distinct import distinct
from towers.keras import tf

OTHERS = [np.array([9, 11, 9, 4], np.int32), np.array([2, 9], np.int32)]


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("others", [[], OTHERS])
def test_every_place_has_the_row_of_its_item(read, others):
    inputs = batch(small_config())
    named = np.concatenate((inputs["history"].ravel(), inputs["positive"]))
    if read:
        inputs["distinct_items"], inputs["item_rows"] = distinct_items(named, np.empty(100, np.int32))
    found = distinct({name: tf.constant(values) for name, values in inputs.items()}, others)
    items = found.items.numpy()
    assert sorted(items) == sorted({*named.tolist(), *(item for group in others for item in group.tolist())})
    assert np.array_equal(items[found.history], inputs["history"])
    assert items[found.positives].tolist() == list(dict.fromkeys(inputs["positive"].tolist()))
    assert [items[rows].tolist() for rows in found.others] == [group.tolist() for group in others]
