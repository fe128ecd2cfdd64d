"""Field embeddings: catalogue rows -> the concatenation of one embedding per field.

The value of every field of every item (or user) lies in a table beside the model, so that a batch holds
indices only (docs/adr/0004-item-table.md).
"""

from collections.abc import Sequence

import numpy as np

from pipeline.catalogue import EncodedField, FieldTable
from pipeline.errors import ConfigError, nearest
from towers.keras import keras, tf


def select_fields(table: FieldTable, names: Sequence[str] | None, setting: str) -> FieldTable:
    """The table with only the named fields, in the table's order; None keeps all.

    Raises ConfigError naming `setting` when a name is no field of the table.
    """
    if names is None:
        return table
    known = [field.name for field in table.fields]
    for name in names:
        if name not in known:
            raise ConfigError(f"`{setting}`: no field {name!r}.{nearest(name, known)} The fields are {known}")
    fields = tuple(field for field in table.fields if field.name in names)
    return FieldTable(fields, {field.name: table.columns[field.name] for field in fields})


class FieldEmbeddings(keras.layers.Layer):
    """Embeds the fields of encoded values; a field is a row of its own table, a multi field the mean of its rows.

    Args:
      fields: F fields.
      dim: D, embedding size of every field.
      maskable: learn a default embedding per field, which stands for a masked one (Yao et al. 2021, section 3.2).
    """

    def __init__(
        self, fields: Sequence[EncodedField], dim: int, name: str = "item_field_embeddings", maskable: bool = False
    ) -> None:
        super().__init__(name=name)
        self.fields, self.dim, self.maskable = tuple(fields), dim, maskable

    def build(self, input_shape: object) -> None:
        self.tables = {field.name: self._table(field.name, field.size) for field in self.fields}
        if self.maskable:
            self.default = self._table("default", len(self.fields))
        super().build(input_shape)

    def _table(self, name: str, rows: int) -> tf.Variable:
        initializer = keras.initializers.TruncatedNormal(stddev=self.dim**-0.5)
        return self.add_weight(f"{name}_embedding", (rows, self.dim), initializer=initializer)

    @property
    def width(self) -> int:
        """F * D, the size of a concatenated embedding."""
        return len(self.fields) * self.dim

    def call(
        self,
        values: dict[str, tf.Tensor],
        mask: tf.Tensor | None = None,
        keep: dict[str, tf.Tensor] | None = None,
        fixed: bool = False,
    ) -> tf.Tensor:
        """Embed n rows.

        Args:
          values: per field int32 [n], or [n, M] for a multi field (0 = no value).
          mask: bool [F] or [n, F]; True puts the field's default embedding in its place.
          keep: per multi field bool [n, M]; False drops that value.
          fixed: only in sizes that follow from n, see `UserTower.serve`.
        Returns: float32 [n, F * D].
        """
        columns = [self._embed(field, values[field.name], (keep or {}).get(field.name), fixed) for field in self.fields]
        if mask is None:
            return tf.concat(columns, axis=1)  # F x (n, D) -> (n, F*D)
        stacked = tf.stack(columns, axis=1)  # F x (n, D) -> (n, F, D)
        masked = tf.where(mask[..., tf.newaxis], self.default, stacked)
        return tf.reshape(masked, (-1, self.width))  # (n, F, D) -> (n, F*D)

    def _embed(self, field: EncodedField, values: tf.Tensor, keep: tf.Tensor | None, fixed: bool) -> tf.Tensor:
        table = self.tables[field.name]
        if field.kind != "multi":
            return tf.nn.embedding_lookup(table, values)  # (n,) -> (n, D)
        present = values > 0 if keep is None else tf.logical_and(values > 0, keep)
        if fixed:
            rows = tf.nn.embedding_lookup(table, values)  # (n, M, D)
            sums = tf.reduce_sum(rows * tf.cast(present, rows.dtype)[..., tf.newaxis], axis=1)  # (n, D)
        else:  # most items have far fewer values than the longest one, so only those present are looked up
            places = tf.where(present)  # (p, 2)
            rows = tf.nn.embedding_lookup(table, tf.gather_nd(values, places))  # (p, D)
            sums = tf.math.unsorted_segment_sum(rows, places[:, 0], tf.shape(values)[0])  # (n, D)
        count = tf.reduce_sum(tf.cast(present, sums.dtype), axis=1, keepdims=True)  # (n, 1)
        return tf.math.divide_no_nan(sums, count)


class ItemTable(keras.layers.Layer):
    """The catalogue's field values as tensors; row i holds the values of item index i."""

    def __init__(self, table: FieldTable, name: str = "item_table") -> None:
        super().__init__(name=name, trainable=False)
        self.fields = table.fields
        self.columns = {
            field.name: tf.Variable(table.columns[field.name].astype(np.int32), trainable=False, name=field.name)
            for field in table.fields
        }
        self.rows = len(next(iter(table.columns.values())))
        self.same = self._same(table)

    def replace(self, table: FieldTable) -> None:
        """Take the values of another table of the same shape; before the first call."""
        for name, column in self.columns.items():
            column.assign(table.columns[name])
        self.same = self._same(table)

    def call(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """int32 [n] -> the field values of those items, per field int32 [n] or [n, M]."""
        return {name: self._look_up(name, items) for name in self.columns}

    def _look_up(self, name: str, items: tf.Tensor) -> tf.Tensor:
        return items if name in self.same else tf.nn.embedding_lookup(self.columns[name], items)

    def _same(self, table: FieldTable) -> frozenset[str]:
        """The fields in which the value of every item is its index, as their ids are: they need not be read.

        With a checkpoint this cannot change: it knows no fewer items than the train events do.
        """
        every = np.arange(self.rows)
        return frozenset(name for name, values in table.columns.items() if np.array_equal(values, every))
