"""Which items share a value of a field: drawn uniformly, and asked for, without a list of the pairs."""

import numpy as np

from towers.keras import tf
from towers.randomness import uniform

ROUNDS = 64
"""After so many an anchor goes without; only one that shares dozens of values with most related items may."""


class SharedValues:
    """Two items are related when they share a value.

    Args:
      column: int32 [R] or [R, M], a field of the item table; 0 is no value, and shared by nobody.
      missing: the index of the value "", which is shared by nobody either.
    """

    def __init__(self, column: np.ndarray, missing: int) -> None:
        values = column.reshape(len(column), -1).astype(np.int32)  # [R] -> (R, 1)
        values = np.where(values == missing, np.int32(0), values)
        item, slot = np.nonzero(values)
        order = np.argsort(values[item, slot], kind="stable")  # members of value 1, of value 2, ...
        item, slot = item[order], slot[order]
        value = values[item, slot]
        sizes = np.bincount(value, minlength=1)
        starts = np.cumsum(sizes) - sizes
        place = np.zeros(values.shape, np.int64)  # of the item among the members of each of its values
        place[item, slot] = np.arange(len(item)) - starts[value]
        self.values, self.place = tf.constant(values), tf.constant(place, tf.int32)
        self.members, self.starts = tf.constant(item, tf.int32), tf.constant(starts, tf.int64)
        self.others = tf.constant(np.maximum(sizes - 1, 0), tf.int64)

    def draw(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """int32 [n] -> (a related item each, int32 [n], 0 where there is none; whether there is one, bool [n]).

        Uniform over the related items: a pair of a value and another item with it is drawn uniformly, and drawn again
        unless that value is the first that the two share.
        """
        mine = tf.gather(self.values, anchors)  # (n, M)
        ends = tf.cumsum(tf.gather(self.others, mine), axis=1)  # (n, M), of the other items by value

        def again(number: tf.Tensor, drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            other, accepted = self._draw_once(anchors, mine, ends, number)
            return number + 1, tf.where(tf.logical_and(drawn == 0, accepted), other, drawn)

        def missing(number: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
            waiting = tf.logical_and(drawn == 0, ends[:, -1] > 0)
            return tf.logical_and(number < ROUNDS, tf.reduce_any(waiting))

        _, drawn = tf.while_loop(missing, again, (0, tf.zeros_like(anchors)))
        return drawn, drawn > 0

    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Which of `others` int32 [n, m] share a value with anchors int32 [n]: bool [n, m]."""
        theirs = tf.gather(self.values, others)  # (n, m, M)

        # One of the anchors' values at a time: all at once would be n x m x M x M.
        def shares(found: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
            same = tf.reduce_any(theirs == value[:, tf.newaxis, tf.newaxis], axis=2)
            return tf.logical_or(found, tf.logical_and(same, value[:, tf.newaxis] > 0))

        mine = tf.transpose(tf.gather(self.values, anchors))  # (n, M) -> (M, n)
        return tf.foldl(shares, mine, initializer=tf.zeros_like(others, tf.bool))

    def _draw_once(
        self, anchors: tf.Tensor, mine: tf.Tensor, ends: tf.Tensor, turn: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(an item that has a value of the anchor, int32 [n]; is that the first value they share, bool [n])."""
        total = ends[:, -1]
        drawn = uniform(tf.shape(total), dtype=tf.float64, turn=turn)
        number = tf.cast(drawn * tf.cast(total, tf.float64), tf.int64)
        number = tf.minimum(number, tf.maximum(total - 1, 0))
        slot = tf.reduce_sum(tf.cast(ends <= number[:, tf.newaxis], tf.int32), axis=1)
        slot = tf.minimum(slot, tf.shape(mine)[1] - 1)  # past the end where there is nobody
        value, end = (tf.gather(each, slot, batch_dims=1) for each in (mine, ends))
        within = number - (end - tf.gather(self.others, value))
        own = tf.cast(tf.gather(tf.gather(self.place, anchors), slot, batch_dims=1), tf.int64)
        member = tf.gather(self.starts, value) + within + tf.cast(within >= own, tf.int64)
        valid = total > 0
        other = tf.gather(self.members, tf.where(valid, member, 0)) if len(self.members) else tf.zeros_like(anchors)
        theirs = tf.gather(self.values, other)
        shared = tf.reduce_any(mine[:, :, tf.newaxis] == theirs[:, tf.newaxis, :], axis=2)  # (n, M)
        first = tf.argmax(tf.logical_and(shared, mine > 0), axis=1, output_type=tf.int32)
        return other, tf.logical_and(valid, first == slot)
