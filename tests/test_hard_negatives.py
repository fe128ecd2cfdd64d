"""Mined negatives against a sort of all items by their score."""

import numpy as np
import pytest
from test_dataset import sequences, train_items
from tower_fixtures import ROWS, small_config, small_model, users

from pipeline.dataset import TrainDataset, user_inputs
from pipeline.errors import ConfigError
from pipeline.hard_negatives import hard_negative_mining, mine


def ranked(model, dataset, data, row: int) -> list[int]:
    """The items with a train event that a user did not click, best first."""
    history = np.int32(train_items(data, row))
    inputs = user_inputs((np.array([0, len(history)]), history), dataset.events.users[[row]], dataset.users, 5)
    items = np.setdiff1d(dataset.events.items, history)
    scores = model.item_vectors(items.astype(np.int32)) @ model.user_vectors(inputs)[0]
    return items[np.argsort(-scores)].tolist()


@pytest.mark.parametrize("skip", [0, 2])
def test_they_are_the_best_items_the_user_did_not_click(skip):
    config, data = small_config(f"loss.negatives.hard={{count: 4, skip: {skip}}}"), sequences(3)
    model, dataset = small_model(config), TrainDataset(config, data, users(), ROWS)
    hard = mine(model, dataset, config.loss.negatives.hard)
    for row in range(len(data)):
        expected = ranked(model, dataset, data, row)[skip : skip + 4] if train_items(data, row) else [0] * 4
        assert hard[row].tolist() == expected


def test_fewer_items_than_asked_for_leave_places_empty():
    config, data = small_config("loss.negatives.hard.count=40"), sequences(3)
    model, dataset = small_model(config), TrainDataset(config, data, users(), ROWS)
    hard = mine(model, dataset, config.loss.negatives.hard)
    for row in range(len(data)):
        if train_items(data, row):
            expected = ranked(model, dataset, data, row)
            assert hard[row].tolist() == expected + [0] * (40 - len(expected))


def test_mining_is_due_after_every_so_many_steps_and_not_before_the_first():
    config = small_config("loss.negatives.hard={count: 4, every_steps: 3}")
    model, dataset = small_model(config), TrainDataset(config, sequences(3), users(), ROWS)
    before_step, due = hard_negative_mining(model, dataset), []
    for step in range(8):
        model.negatives.mined.assign(np.zeros_like(model.negatives.mined))
        before_step(step)
        due.append(bool(np.any(model.negatives.mined.numpy())))
    assert due == [False, False, False, True, False, False, True, False]


def test_an_index_that_faiss_cannot_build_is_refused():
    config = small_config("loss.negatives.hard={count: 4, index: 'IVF9999,Flat'}")
    model, dataset = small_model(config), TrainDataset(config, sequences(3), users(), ROWS)
    with pytest.raises(ConfigError, match=r"`loss.negatives.hard.index`: FAISS cannot build 'IVF9999,Flat'"):
        mine(model, dataset, config.loss.negatives.hard)


@pytest.mark.parametrize("index", ["nonsense", "IVF9999,Flat", "IVF2,PQ4", "PQ7"])
def test_such_an_index_is_refused_before_the_first_step(index):
    config = small_config(f"loss.negatives.hard={{count: 4, index: '{index}'}}")
    model, dataset = small_model(config), TrainDataset(config, sequences(3), users(), ROWS)
    with pytest.raises(ConfigError, match=r"`loss\.negatives\.hard\.index`: FAISS cannot build .*Cure: `Flat`"):
        hard_negative_mining(model, dataset)
