"""Training batches against loops over each user's events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tower_fixtures import ROWS, USERS, small_config, users

from pipeline.dataset import TrainDataset, distinct_items, recency_weights, user_inputs
from pipeline.sequences import UserSequences


def sequences(seed: int = 0, count: int = USERS - 1) -> UserSequences:
    """Users with 0 to 9 train events, a validation and a test event each; some items unknown."""
    rng = np.random.default_rng(seed)
    train_end = rng.integers(0, 10, count).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(train_end + 2))).astype(np.int64)
    return UserSequences(
        users=np.arange(1, count + 1, dtype=np.int32),
        offsets=offsets,
        items=rng.integers(0, ROWS, offsets[-1]).astype(np.int32),
        timestamps=np.arange(offsets[-1]) * 3600,
        train_end=train_end,
        validation_end=train_end + 1,
    )


def train_items(data: UserSequences, row: int) -> list[int]:
    items = data.items[data.offsets[row] : data.offsets[row] + data.train_end[row]]
    return [int(item) for item in items if item > 0]


def expected_examples(data: UserSequences, length: int) -> set[tuple]:
    examples = []
    for row in range(len(data)):
        items = train_items(data, row)
        for position, positive in enumerate(items):
            history = items[max(0, position - length) : position]
            examples.append((tuple([0] * (length - len(history)) + history), positive, row))
    return sorted(examples)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_an_epoch_holds_every_train_event_with_what_came_before_it(seed):
    data, table, config = sequences(seed), users(), small_config("train.batch_size=6")
    dataset = TrainDataset(config, data, table, ROWS)
    batches = list(dataset.batches(1))
    seen = sorted(
        (tuple(history), positive)
        for batch in batches
        for history, positive in zip(batch["history"].tolist(), batch["positive"].tolist(), strict=True)
    )
    assert seen == sorted(example[:2] for example in expected_examples(data, 5))
    assert len(batches) == len(dataset)


@given(st.lists(st.integers(0, 40)))
def test_distinct_items_are_those_of_numpy(items):
    named = np.array(items, np.int32)
    found = distinct_items(named, np.full(41, 7, np.int32))
    for part, expected in zip(found, np.unique(named, return_inverse=True), strict=True):
        assert part.dtype == np.int32
        assert np.array_equal(part, expected)


@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_a_batch_names_its_distinct_items(part):
    for batch in TrainDataset(small_config("train.batch_size=6"), sequences(), users(), ROWS, part).batches(1):
        named = np.concatenate((batch["history"].ravel(), batch["positive"]))
        assert np.array_equal(batch["distinct_items"][batch["item_rows"]], named)
        assert np.all(np.diff(batch["distinct_items"]) > 0)


def test_a_batch_carries_the_fields_of_its_users():
    data, table = sequences(), users()
    dataset = TrainDataset(small_config("train.batch_size=100"), data, table, ROWS)
    (batch,) = dataset.batches(1)
    by_example: dict[tuple, set] = {}
    for history, positive, row in expected_examples(data, 5):
        by_example.setdefault((history, positive), set()).add(int(table.columns["gender"][row + 1]))
    for history, positive, gender in zip(batch["history"].tolist(), batch["positive"], batch["gender"], strict=True):
        assert gender in by_example[tuple(history), positive]


def test_an_epoch_repeats_and_the_next_one_differs():
    dataset = TrainDataset(small_config("train.batch_size=100"), sequences(), users(), ROWS)
    first, again, other = (next(dataset.batches(number)) for number in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["positive"], other["positive"])


@pytest.mark.parametrize("extra", ["loss.negatives.uniform=9", "train.history_sampling=others"])
def test_an_epoch_can_begin_at_any_batch(extra):
    dataset = TrainDataset(small_config("train.batch_size=6", extra), sequences(), users(), ROWS)
    whole = list(dataset.batches(2))
    for done in range(len(whole) + 1):
        rest = list(dataset.batches(2, done))
        assert len(rest) == len(whole) - done
        for expected, batch in zip(whole[done:], rest, strict=True):
            assert all(np.array_equal(expected[name], batch[name]) for name in expected)


def test_tf_data_gives_the_same_batches_as_numpy():
    dataset = TrainDataset(small_config("loss.negatives.uniform=9"), sequences(), users(), ROWS)
    for tensors, arrays in zip(dataset.epoch(3), dataset.batches(3), strict=True):
        assert tensors.keys() == arrays.keys()
        assert all(np.array_equal(tensors[name].numpy(), arrays[name]) for name in arrays)


def test_other_history_holds_other_items_of_the_same_user():
    data = sequences()
    config = small_config("train.history_sampling=others", "train.batch_size=500")
    (batch,) = TrainDataset(config, data, users(), ROWS).batches(1)
    allowed = [set(train_items(data, row)) for row in range(len(data))]
    for history, positive in zip(batch["history"].tolist(), batch["positive"].tolist(), strict=True):
        others = {item for item in history if item}
        assert any(others | {positive} <= items for items in allowed)
    assert np.any(batch["history"] > 0)


def test_user_inputs_take_the_most_recent_known_items():
    items = np.array([3, 0, 4, 5, 6, 7, 8, 9, 0], np.int32)
    inputs = user_inputs((np.array([0, 0, 2, 9]), items), np.array([0, 2, 3]), users(), 5)
    assert inputs["history"].tolist() == [[0] * 5, [0, 0, 0, 0, 3], [5, 6, 7, 8, 9]]
    assert inputs["gender"].tolist() == users().columns["gender"][[0, 2, 3]].tolist()


def test_recency_weights_halve_every_half_life():
    day = 86_400
    weights = recency_weights(np.array([0, 10 * day, 20 * day]), 10.0)
    assert weights == pytest.approx([0.25, 0.5, 1.0])
    assert recency_weights(np.array([0, 10 * day]), None).tolist() == [1.0, 1.0]
