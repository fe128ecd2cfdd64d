"""The towers of benchmarks/train.py as Keras layers, for peers: Keras 2 (TFRS) and Keras 3 (keras-rs) alike."""

from typing import Any

from benchmarks.train_task import DIM, HEADS, HIDDEN, LENGTH, TrainTask


def towers(keras: Any, task: TrainTask) -> tuple[Any, Any]:
    """(history [B, L] -> [B, D], item [B] -> [B, D]), keras.Models that share one table of item embeddings."""
    table = keras.layers.Embedding(task.items + 1, DIM, mask_zero=True)
    history = keras.Input((LENGTH,), dtype="int32")
    embedded = table(history)
    pooled = _transformer(keras, embedded) if task.tower == "ican" else keras.layers.GlobalAveragePooling1D()(embedded)
    item = keras.Input((), dtype="int32")
    return keras.Model(history, _mlp(keras, pooled)), keras.Model(item, _mlp(keras, table(item)))


def _mlp(keras: Any, x: Any) -> Any:
    for size in HIDDEN[:-1]:
        x = keras.layers.Dense(size, activation="relu")(x)
    return keras.layers.UnitNormalization()(keras.layers.Dense(HIDDEN[-1])(x))


def _transformer(keras: Any, embedded: Any) -> Any:
    """One block with learned positions, flattened; the layers pass on the mask of absent items."""
    x = _positions(keras)(embedded)
    attended = keras.layers.MultiHeadAttention(HEADS, DIM // HEADS)(x, x)
    x = keras.layers.LayerNormalization(epsilon=1e-6)(keras.layers.Add()([x, attended]))
    fed = keras.layers.Dense(DIM)(keras.layers.Dense(DIM, activation="relu")(x))
    x = keras.layers.LayerNormalization(epsilon=1e-6)(keras.layers.Add()([x, fed]))
    return keras.layers.Flatten()(x)


def _positions(keras: Any) -> Any:
    class Positions(keras.layers.Layer):
        supports_masking = True

        def build(self, shape: Any) -> None:
            self.positions = self.add_weight(name="positions", shape=(LENGTH, DIM), initializer="zeros")
            super().build(shape)

        def call(self, x: Any) -> Any:
            return x + self.positions

    return Positions()
