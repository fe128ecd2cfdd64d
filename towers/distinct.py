"""Each item of a batch once: what is embedded, and where in it every place of the batch is found."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from towers.keras import tf


class Distinct(NamedTuple):
    """The distinct items of a step, and the row of each of its places among them.

    items: int32 [U]. history: int32 [B, L]. positives: int32 [P], of the distinct positives in the order in which they
    come first. others: int32 [n] a group of further items.
    """

    items: tf.Tensor
    history: tf.Tensor
    positives: tf.Tensor
    others: list[tf.Tensor]


def distinct(inputs: Mapping[str, tf.Tensor], others: Sequence[tf.Tensor]) -> Distinct:
    """The distinct items of the histories, the positives and some other groups, int32 [n] each.

    A batch names an item many times; without this, the gradient of every embedding table carries a row for each of
    them.

    Args: inputs: `history` int32 [B, L] and `positive` int32 [B]. Where the reader has found their distinct items, they
      are ascending in `distinct_items`, int32 [U], and `item_rows`, int32 [B * L + B], says where each stands.
    """
    history, positive = tf.reshape(inputs["history"], (-1,)), inputs["positive"]
    if "item_rows" in inputs:
        items, rows = inputs["distinct_items"], inputs["item_rows"]
    else:
        items, rows = tf.unique(tf.concat((history, positive), axis=0))
    of_history, of_positive = tf.split(rows, (tf.size(history), tf.size(positive)))
    if others:  # those that are there already keep their rows
        count, sizes = tf.size(items), [tf.size(group) for group in others]
        items, rows = tf.unique(tf.concat((items, *others), axis=0))
        others = tf.split(rows[count:], sizes)
    of_history = tf.reshape(of_history, tf.shape(inputs["history"]))
    return Distinct(items, of_history, tf.unique(of_positive)[0], list(others))
