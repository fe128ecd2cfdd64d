"""What every side trains, and what their scripts share. It runs in the environments of all: numpy only."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BATCH, DIM, LENGTH, HIDDEN, HEADS, TEMPERATURE, RATE = 4096, 64, 20, (128, 64, 64), 2, 0.1, 0.001
EVENTS_PER_USER = 50
WARM = 4
"""Steps before the clock starts: tracing, and the first use of every buffer."""
LEAST_STEPS, MOST_STEPS = 12, 64
"""The clock does not stop before so many; a run has data for so many."""


@dataclass(frozen=True)
class TrainTask:
    """What one run trains, and for how long.

    items: R - 1, of the catalogue, indices from 1. tower: `mean` or `ican`. optimizer: `adam` or `adagrad`. seconds:
    the clock runs so long, or until the data end. log: a .npy file, int32 [U * EVENTS_PER_USER], every user's clicks in
    order. Of ours only: fields, whether items have fields beside the id; tasks, whether all SSL tasks are trained too;
    input_only, to read the batches and do no more.
    """

    items: int
    tower: str
    optimizer: str
    seconds: float
    log: str
    fields: bool = False
    tasks: bool = False
    input_only: bool = False

    def clicks(self) -> np.ndarray:
        """The log, int32 [E]."""
        return np.load(self.log)

    def examples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(histories [n, LENGTH], left-padded with 0; positives [n]; users from 0 [n]) in random order, all int32."""
        clicks = self.clicks()
        chosen = np.random.default_rng(1).permutation(len(clicks))[: BATCH * MOST_STEPS]
        places = chosen[:, np.newaxis] - np.arange(LENGTH, 0, -1)  # (n, L)
        inside = places >= (chosen - chosen % EVENTS_PER_USER)[:, np.newaxis]
        histories = np.where(inside, clicks[np.maximum(places, 0)], 0).astype(np.int32)
        return histories, clicks[chosen], (chosen // EVENTS_PER_USER).astype(np.int32)

    def shares(self) -> np.ndarray:
        """Each item's share of the clicks, float32 [R]; an item without clicks counts as one."""
        counts = np.maximum(np.bincount(self.clicks(), minlength=self.items + 1), 1)
        return (counts / counts.sum()).astype(np.float32)


class Clock:
    """Measures the steps after the first WARM ones. `step` is called after each, and says whether to go on."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, 0
        self.wall = self.cpu = 0.0
        self._started = (0.0, 0.0)

    def step(self, finished: Callable[[], object] | None = None) -> bool:
        """finished: waits until the step's result is there, where it may not be; not called before the clock starts."""
        self.steps += 1
        if self.steps < WARM:
            return True
        if finished is not None:
            finished()
        now = time.perf_counter(), time.process_time()
        if self.steps == WARM:
            self._started = now
        self.wall, self.cpu = now[0] - self._started[0], now[1] - self._started[1]
        return self.steps < LEAST_STEPS or (self.wall < self.seconds and self.steps < MOST_STEPS)

    def print(self) -> None:
        """One JSON line: examples, wall and CPU seconds (of all threads) between the first and the last step."""
        print(json.dumps({"examples": BATCH * (self.steps - WARM), "wall": self.wall, "cpu": self.cpu}))


def main(train: Callable[[TrainTask], Clock]) -> None:
    """The command line of a side: the task as a JSON file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    content = json.loads(parser.parse_args().task.read_text(encoding="utf-8"))
    train(TrainTask(**content)).print()
