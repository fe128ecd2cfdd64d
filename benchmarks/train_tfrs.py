"""The two-tower in the style of TFRS's tutorials: Keras towers, `tfrs.tasks.Retrieval`, `fit` on a tf.data pipeline."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.train_keras_towers import towers
from benchmarks.train_task import BATCH, RATE, TEMPERATURE, Clock, TrainTask, main

OPTIMIZERS = {"adam": tf.keras.optimizers.Adam, "adagrad": tf.keras.optimizers.Adagrad}


class TwoTower(tfrs.Model):
    """As in `Recommending movies: retrieval`, with the correction for sampling probabilities."""

    def __init__(self, task: TrainTask) -> None:
        super().__init__()
        self.query_model, self.candidate_model = towers(tf.keras, task)
        self.shares = tf.constant(task.shares())
        self.task = tfrs.tasks.Retrieval(temperature=TEMPERATURE)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        query, candidate = self.query_model(features["history"]), self.candidate_model(features["item"])
        return self.task(query, candidate, candidate_sampling_probability=tf.gather(self.shares, features["item"]))


class Timer(tf.keras.callbacks.Callback):
    """Stops `fit` when the clock says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.model.stop_training = not self.clock.step(lambda: (logs or {})["loss"])


def train(task: TrainTask) -> Clock:
    """Fit until the clock stops."""
    clock, (histories, items, _) = Clock(task.seconds), task.examples()
    data = tf.data.Dataset.from_tensor_slices({"history": histories, "item": items}).batch(BATCH, drop_remainder=True)
    model = TwoTower(task)
    model.compile(optimizer=OPTIMIZERS[task.optimizer](RATE))
    model.fit(data.prefetch(tf.data.AUTOTUNE), epochs=1, verbose=0, callbacks=[Timer(clock)])
    return clock


if __name__ == "__main__":
    main(train)
