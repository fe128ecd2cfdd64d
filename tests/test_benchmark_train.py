"""benchmarks/train.py: every side gets the same examples, the first steps do not count, targets are checked."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import train, train_ours, train_profile, train_xla
from benchmarks.train_task import BATCH, EVENTS_PER_USER, LENGTH, WARM, Clock, TrainTask
from pipeline.catalogue import FieldTable
from pipeline.dataset import TrainDataset


@pytest.fixture
def task(tmp_path) -> TrainTask:
    """Six batches of clicks on 300 items."""
    clicks = np.random.default_rng(0).integers(1, 301, 6 * BATCH // EVENTS_PER_USER * EVENTS_PER_USER)
    np.save(tmp_path / "log.npy", clicks.astype(np.int32))
    return TrainTask(300, "mean", "adam", 60.0, str(tmp_path / "log.npy"))


def test_an_example_is_a_click_and_the_clicks_of_its_user_before_it(task):
    clicks = task.clicks().reshape(-1, EVENTS_PER_USER)
    histories, items, users = task.examples()
    for history, item, user in zip(histories[:200].tolist(), items.tolist(), users.tolist(), strict=False):
        known = [click for click in history if click]
        assert history == [0] * (LENGTH - len(known)) + known
        own = clicks[user].tolist()
        assert any(own[i] == item and own[max(i - LENGTH, 0) : i] == known for i in range(EVENTS_PER_USER)), (
            "neither padded nor cut right"
        )


def test_shares_are_those_of_the_clicks(task):
    clicks = task.clicks()
    assert task.shares()[7] == pytest.approx(np.mean(clicks == 7), rel=0.01)


def test_the_clock_leaves_out_the_first_steps_and_stops():
    clock, finished = Clock(0.0), []
    while clock.step(lambda: finished.append(clock.steps)):
        pass
    assert finished == list(range(WARM, clock.steps + 1))
    assert clock.wall > 0


@pytest.mark.parametrize("change", [{}, {"tower": "ican", "optimizer": "adagrad"}, {"input_only": True}])
def test_our_side_runs_to_the_end_of_the_data(task, change):
    assert train_ours.train(replace(task, **change)).steps == 6


def test_our_side_trains_every_task(task, tmp_path):
    asked = replace(task, fields=True, tasks=True)
    model = train_ours.make_model(asked, train_ours.configuration(asked), tmp_path / "artefacts")
    assert [each.name for each in model.tasks] == list(train_ours.TASKS)
    assert model.item_embeddings.width == 4 * 64


def test_xla_trains_the_same_step(task):
    config = train_ours.configuration(task)
    dataset = TrainDataset(config, train_ours.sequences(task), FieldTable((), {}), task.items + 1)
    batch = next(dataset.batches(1))
    plain, compiled = (float(train_xla.make_step(task, each)(batch)["loss"]) for each in (False, True))
    assert compiled == pytest.approx(plain, rel=0.1), "their weights are drawn anew"


def runs(**speeds: float) -> list[train.Run]:
    """Ours at 100,000 and 5,000,000 items, reading, with fields and with tasks, and a peer; in examples per second."""
    base = TrainTask(100_000, "mean", "adam", 1.0, "")
    tasks = {
        "ours": ("ours", base),
        "large": ("ours", replace(base, items=5_000_000)),
        "reading": ("ours", replace(base, input_only=True)),
        "fields": ("ours", replace(base, fields=True)),
        "tasks": ("ours", replace(base, fields=True, tasks=True)),
        "peer": ("tfrs", replace(base, optimizer="adagrad")),
    }
    return [train.Run(*tasks[name], wall=1e6 / speed, cpu=1.0, peak=1) for name, speed in speeds.items()]


GOOD = {"ours": 30_000, "large": 25_000, "reading": 200_000, "fields": 15_000, "tasks": 10_000, "peer": 15_000}


def missed(*turns: list[train.Run]) -> list[str]:
    """What has a target and does not meet it."""
    return [
        what for (tower, what), values in train.ratios(list(turns)).items() if not train.report(tower, what, values)
    ]


def test_targets_are_met_where_all_is_well():
    assert len(train.ratios([runs(**GOOD)])) == 4
    assert missed(runs(**GOOD)) == []


@pytest.mark.parametrize(
    ("worse", "what"),
    [
        ({"peer": 21_000}, "100,000 items, to the best peer"),
        ({"large": 23_000}, train.FLAT),
        ({"reading": 140_000}, train.INPUT),
        ({"tasks": 9_000}, train.TASKS),
    ],
)
def test_a_missed_target_is_told(worse, what):
    assert missed(runs(**GOOD | worse)) == [what]


def test_a_turn_in_which_the_machine_was_slower_decides_nothing():
    slower = {name: speed / 2 for name, speed in GOOD.items()}
    assert missed(runs(**GOOD), runs(**slower), runs(**GOOD | {"large": 15_000})) == []


def test_a_median_is_taken_of_each_figure():
    base = TrainTask(1, "mean", "adam", 1.0, "")
    found = train.median([train.Run("ours", base, wall, 4.0 - wall, 7) for wall in (1.0, 3.0, 2.5)])
    assert (found.wall, found.cpu, found.peak) == (2.5, 1.5, 7)


def test_numbers_of_items_may_be_abbreviated():
    assert [train.count(text) for text in ("100k", "5M", "70")] == [100_000, 5_000_000, 70]


def test_the_floor_counts_each_distinct_positive_and_each_row_once(task):
    batch = {"positive": np.array([1, 1, 2]), "history": np.array([[0, 2], [3, 1], [0, 0]])}
    more = {"positive": np.array([1, 3, 2]), "history": np.array([[0, 2], [3, 1], [0, 4]])}
    (flops, moved), (more_flops, more_moved) = (train_profile.count(task, [each]) for each in (batch, more))
    assert more_flops - flops == 6 * BATCH * 64  # one positive more: a product forward, two backward
    assert more_moved - moved == 4 * 6 * 64  # one row more: its weight and two moments, read and written
