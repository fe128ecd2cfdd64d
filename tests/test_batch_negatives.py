"""What a training batch carries for its negatives, against loops over each user's events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset import sequences, train_items
from tower_fixtures import ROWS, small_config, users

from pipeline.config_loss import NegativesConfig
from pipeline.dataset import Events, TrainDataset
from pipeline.explicit_negatives import ExplicitNegatives
from pipeline.negatives import BatchNegatives


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_what_a_user_clicked_in_training_is_told_once(seed):
    data = sequences(seed)
    events = Events.train(data)
    positions = np.random.default_rng(seed).permutation(len(events.items))[:8]
    batch = BatchNegatives(NegativesConfig(), events, ROWS, None).batch(positions, np.random.default_rng(0))
    found = list(zip(batch["clicked_by"].tolist(), batch["clicked"].tolist(), strict=True))
    expected = {
        (place, item) for place, event in enumerate(positions) for item in train_items(data, int(events.row[event]))
    }
    assert len(found) == len(expected)
    assert set(found) == expected


def test_nothing_is_carried_for_what_is_switched_off():
    config = small_config("loss.negatives.mask_clicked=false", "train.batch_size=100")
    (batch,) = TrainDataset(config, sequences(), users(), ROWS).batches(1)
    assert batch.keys() == {"history", "positive", "weight", "distinct_items", "item_rows", "gender", "hobbies"}


def test_uniform_negatives_are_all_items_alike_and_repeat_with_their_seed():
    config = small_config("loss.negatives.uniform=30000", "train.batch_size=500")
    dataset = TrainDataset(config, sequences(), users(), ROWS)
    first, again, other = (next(dataset.batches(epoch))["uniform_negatives"] for epoch in (1, 1, 2))
    counts = np.bincount(first, minlength=ROWS)
    assert counts[0] == 0
    assert counts[1:] == pytest.approx(np.full(ROWS - 1, 30000 / (ROWS - 1)), rel=0.15)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_explicit_negatives_are_the_users_last_ones_up_to_the_event(seed, count):
    data, rng = sequences(seed), np.random.default_rng(seed)
    events = Events.train(data)
    if not len(events.items):
        return
    rows, items = rng.integers(0, len(data), 60), rng.integers(1, ROWS, 60).astype(np.int32)
    times = rng.integers(0, len(data.items) * 3600, 60)
    explicit = ExplicitNegatives.match(events, rows, items, times)
    positions = rng.permutation(len(events.items))[:8]
    found = explicit.before(positions, events.row[positions], count)
    for event, negatives in zip(positions, found, strict=True):
        row = events.row[event]
        seen = sorted(
            (time, item)
            for user, item, time in zip(rows, items, times, strict=True)
            if user == row and time <= events.timestamps[event] and item not in train_items(data, int(row))
        )
        assert [item for item in negatives.tolist() if item] == [item for _, item in seen][-count:]
