"""The two-tower in the style of keras-rs's examples: JAX backend, in-batch labels, `SamplingProbabilityCorrection`."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import keras_rs
import tensorflow as tf  # for tf.data only, as in the examples

from benchmarks.train_keras_towers import towers
from benchmarks.train_task import BATCH, RATE, TEMPERATURE, Clock, TrainTask, main

OPTIMIZERS = {"adam": keras.optimizers.Adam, "adagrad": keras.optimizers.Adagrad}


class TwoTower(keras.Model):
    """As in `Sequential retrieval`, with the correction for sampling probabilities."""

    def __init__(self, task: TrainTask) -> None:
        super().__init__()
        self.query_model, self.candidate_model = towers(keras, task)
        self.shares = keras.ops.convert_to_tensor(task.shares())
        self.correction = keras_rs.layers.SamplingProbabilityCorrection()
        self.loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)

    def call(self, inputs: dict, training: bool = False) -> dict:
        return {"query": self.query_model(inputs["history"]), "candidate": self.candidate_model(inputs["item"])}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):  # type: ignore[no-untyped-def]
        logits = keras.ops.matmul(y_pred["query"], keras.ops.transpose(y_pred["candidate"])) / TEMPERATURE
        logits = self.correction(logits, keras.ops.take(self.shares, x["item"]))
        return self.loss_fn(keras.ops.eye(keras.ops.shape(logits)[0]), logits)


class Timer(keras.callbacks.Callback):
    """Stops `fit` when the clock says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.done = clock, False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self.done:
            self.done = self.model.stop_training = not self.clock.step(lambda: float((logs or {})["loss"]))


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
