"""LibRecommender's TwoTower. Its user tower takes the user's id, not a history; the rest is set to be the same."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import pandas as pd
from libreco.algorithms import TwoTower
from libreco.data import DatasetFeat, TransformedSet
from libreco.training.dispatch import get_trainer

from benchmarks.train_task import BATCH, DIM, HIDDEN, MOST_STEPS, RATE, TEMPERATURE, WARM, Clock, TrainTask, main


def train(task: TrainTask) -> Clock:
    """Run its own loop for a few steps, then for as many as the clock allows."""
    _, items, users = task.examples()
    every = np.arange(1, task.items + 1, dtype=np.int32)  # its vocabulary is made of the items that occur
    frame = pd.DataFrame({"user": np.resize(users, len(every)), "item": every, "label": 1})
    frame = pd.concat([frame, pd.DataFrame({"user": users, "item": items, "label": 1})])
    data, info = DatasetFeat.build_trainset(frame)
    model = TwoTower(
        "ranking",
        info,
        embed_size=DIM,
        norm_embed=True,
        lr=RATE,
        batch_size=BATCH,
        n_epochs=1,
        use_bn=False,
        hidden_units=HIDDEN,
        temperature=TEMPERATURE,
    )
    # What `fit` does before it calls its trainer; what it does after, the vectors of all items, is no training.
    model.item_corrections = np.bincount(data.item_indices) / len(data)
    model.build_model()
    model.trainer = get_trainer(model)
    clock = Clock(task.seconds)
    run(model, part(data, WARM))
    measured(clock, model, data, 2)
    steps = int(np.clip(task.seconds / clock.wall * 2, 2, MOST_STEPS - WARM))
    measured(clock, model, data, steps)
    return clock


def measured(clock: Clock, model: TwoTower, data: TransformedSet, steps: int) -> None:
    """Let the clock run over so many steps, as if after the warm ones."""
    clock.steps = WARM - 1
    chosen = part(data, steps)
    clock.step()
    run(model, chosen)
    clock.steps += steps - 1
    clock.step()


def part(data: TransformedSet, steps: int) -> TransformedSet:
    """The last examples of the data, so many batches."""
    rows = slice(-steps * BATCH, None)
    return TransformedSet(data.user_indices[rows], data.item_indices[rows], data.labels[rows])


def run(model: TwoTower, data: TransformedSet) -> None:
    """One epoch of its trainer."""
    options = {"eval_data": None, "metrics": None, "k": 10, "eval_batch_size": 8192, "eval_user_num": None}
    model.trainer.run(data, neg_sampling=True, verbose=0, shuffle=True, num_workers=0, **options)


if __name__ == "__main__":
    main(train)
