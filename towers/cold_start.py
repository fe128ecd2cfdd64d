"""Items and users that training has not seen: how they are embedded, and how a tower learns to embed them so.

A row of an embedding table learns from the train events of the items that have its value. Of a new item, the row of
its id has learned nothing, nor have those of values that no item with a train event has, such as a new author. All of
them are therefore the unknown value (row 0) of their field: what is left is what training can know of the item.

The unknown rows learn by id-dropout: in training a share of the items is embedded as it would be if it were new, so
without its id, and without the values that no other item with a train event has. (DropoutNet, Volkovs et al. 2017,
hides the learned vector of an item in the same way; here the rows of its fields stay.) Users have no id in the tower:
a new one has an empty history, as everybody has before the first event, and maybe no fields.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.catalogue import EncodedField, FieldTable
from towers.keras import keras, tf
from towers.randomness import uniform


class ColdStart(keras.layers.Layer):
    """What is known of the items of a catalogue.

    Args:
      items: their field values. rate: the share of items that are embedded as new in training.
      known: bool [R], the items that the rows of the embedding tables learn from, or have learned from.
    """

    def __init__(self, items: FieldTable, known: np.ndarray, rate: float) -> None:
        super().__init__(name="cold_start", trainable=False)
        self.items, self.rate = items, rate
        self.known = tf.Variable(known, trainable=False, name="known_items")
        self.single = {
            field.name: tf.Variable(self._carriers(field) == 1, trainable=False, name=f"single_{field.name}")
            for field in items.fields
        }

    def table(self) -> FieldTable:
        """The field values, those of new items that nothing is known of being unknown (0)."""
        new = ~self.known.numpy()
        columns = {}
        for field in self.items.fields:
            column = self.items.columns[field.name]
            hidden = (self._carriers(field) == 0)[column]  # (R,) or (R, M)
            columns[field.name] = np.where(hidden & new.reshape(-1, *[1] * (column.ndim - 1)), 0, column)
        return FieldTable(self.items.fields, columns)

    def also_known(self, items: np.ndarray) -> FieldTable:
        """Count more items as known, bool [R], and return the table anew."""
        self.known.assign(self.known.numpy() | items)
        for field in self.items.fields:
            self.single[field.name].assign(self._carriers(field) == 1)
        return self.table()

    def call(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The values of n items, per field int32 [n] or [n, M], some of the items as if they were new."""
        shown = next(iter(values.values()))
        dropped = uniform(tf.shape(shown)[:1], own=True) < self.rate  # (n,)
        result = {}
        for name, value in values.items():
            hidden = tf.gather(self.single[name], value)
            mask = dropped[:, tf.newaxis] if value.shape.rank == 2 else dropped
            result[name] = tf.where(tf.logical_and(hidden, mask), 0, value)
        return result

    def _carriers(self, field: EncodedField) -> np.ndarray:
        """How many known items have each value of a field: int64 [size]; an item has a value of a multi field once."""
        return np.bincount(self.items.columns[field.name][self.known.numpy()].ravel(), minlength=field.size)


def hide_users(fields: Sequence[EncodedField], values: dict[str, tf.Tensor], rate: float) -> dict[str, tf.Tensor]:
    """The fields of B users, per field int32 [B] or [B, M], of a share of them all missing."""
    hidden = uniform(tf.shape(values[fields[0].name])[:1], own=True) < rate  # (B,)
    result = {}
    for field in fields:
        value, missing, mask = values[field.name], tf.constant(field.missing), hidden
        if field.kind == "multi":
            missing, mask = tf.one_hot(0, value.shape[1], missing, 0, dtype=tf.int32), hidden[:, tf.newaxis]  # (M,)
        result[field.name] = tf.where(mask, missing, value)
    return result
