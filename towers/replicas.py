"""One training step on several devices: every replica has its rows of the batch, and sees the items of all.

What a step computes is that of one device. The users, and the items to be encoded, are shared out; the vectors are
gathered, so that a user's negatives are those of the whole batch; a replica's loss is its portion of the mean over the
batch. The gradients of those portions, summed over the replicas, are the gradient of one device: what the loss of one
replica says about a vector that another has encoded flows back to that one.

With one device, and outside of a step, every function here is the identity.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from towers.keras import keras, tf
from towers.sparse_products import sums_by_place

OF_THE_WHOLE = frozenset({"uniform_negatives", "distinct_items", "item_rows"})
"""What a batch holds that is no row of an example."""
Number = TypeVar("Number", int, "tf.Tensor")


def count() -> int:
    """How many replicas take part in the step under way."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def index() -> tf.Tensor:
    """Which of them this is, an int32 scalar."""
    return tf.convert_to_tensor(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


def share(rows: tf.Tensor) -> tf.Tensor:
    """This replica's rows of a tensor that all have alike: [n, ...] -> [n_r, ...], in the order of replicas."""
    if count() == 1:
        return rows
    begin, end = bounds(tf.shape(rows)[0], index(), count())
    return rows[begin:end]


def bounds(rows: Number, place: Number, parts: int) -> tuple[Number, Number]:
    """Where the rows of one of so many parts begin and end."""
    return rows * place // parts, rows * (place + 1) // parts


def share_batch(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """This replica's part of the batch of its worker; for the keys see `TwoTower.compute_loss`.

    The uniform negatives stay those of the whole batch. What the reader knows of the distinct items of the whole batch
    is left out: each replica finds those of its part.
    """
    if count() == 1:
        return dict(inputs)
    here = len(tf.distribute.get_strategy().extended.worker_devices)
    begin, end = bounds(tf.size(inputs["positive"]), index() % here, here)
    part = {name: rows[begin:end] for name, rows in inputs.items() if name not in OF_THE_WHOLE}
    if "uniform_negatives" in inputs:
        part["uniform_negatives"] = inputs["uniform_negatives"]
    if "clicked" in inputs:
        first, last = tf.unstack(tf.searchsorted(inputs["clicked_by"], tf.stack((begin, end))))
        part |= {"clicked": inputs["clicked"][first:last], "clicked_by": inputs["clicked_by"][first:last] - begin}
    return part


def gathered(rows: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, [n_r, ...] -> [n, ...], in the order of replicas; n_r may differ between them.

    The gradient of a row is summed over the replicas, and goes back to the one that it came from.
    """
    if count() == 1:
        return rows
    if rows.dtype in (tf.bfloat16, tf.float16):  # collective ops do not know the one, and sums overflow in the other
        return tf.cast(gathered(tf.cast(rows, tf.float32)), rows.dtype)
    context = tf.distribute.get_replica_context()

    @tf.custom_gradient
    def gather(own: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        first = _rows_before(own)
        size = tf.shape(own)[0]

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            summed = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.convert_to_tensor(upstream))
            return summed[first : first + size]

        return context.all_gather(own, axis=0), gradient

    return gather(rows)


def first_row(rows: tf.Tensor) -> tf.Tensor | int:
    """Where this replica's rows begin among the gathered ones."""
    return 0 if count() == 1 else _rows_before(rows)


def total(value: tf.Tensor) -> tf.Tensor:
    """The sum over all replicas of what each has; a constant, which gets no gradient."""
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return tf.stop_gradient(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(value)))


def portion(mean: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """This replica's portion of a mean over all replicas: they add up to it.

    Args: mean: over this replica's rows. weight: the sum of the weights of those rows.
    """
    if count() == 1:
        return mean
    weight = tf.cast(weight, mean.dtype)
    return mean * tf.math.divide_no_nan(weight, total(weight))


def summed(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
    """Each gradient summed over the replicas, sparse ones with every row once."""
    if count() == 1:
        return list(gradients)
    context = tf.distribute.get_replica_context()
    return [_merged(each) for each in context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))]


def scatter_update(variable: tf.Variable, places: tf.Tensor, values: tf.Tensor) -> None:
    """Set rows of a variable that every replica keeps a copy of; they all must do so, with the same values."""
    _on_own_copy(variable, lambda copy, at, rows: copy.scatter_update(tf.IndexedSlices(rows, at)), places, values)


def assign_add(variable: tf.Variable, amount: tf.Tensor) -> None:
    """Add to a variable that every replica keeps a copy of; they all must do so, with the same amount."""
    _on_own_copy(variable, lambda copy, more: copy.assign_add(more), amount)


class Mean(keras.metrics.Mean):
    """keras.metrics.Mean of values that all replicas have alike: each keeps its own, and any of them can be read.

    keras's own sums over replicas whenever it is read, for which all workers would have to meet.
    """

    def add_weight(self, name: str, **options: object) -> tf.Variable:
        return super().add_weight(name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA, **options)


def _on_own_copy(variable: tf.Variable, update: Callable[..., object], *values: tf.Tensor) -> None:
    if count() == 1:
        update(variable, *values)
        return

    def merged(strategy: tf.distribute.Strategy, *values: object) -> None:
        strategy.extended.update(variable, update, args=values)

    tf.distribute.get_replica_context().merge_call(merged, args=values)


def _rows_before(rows: tf.Tensor) -> tf.Tensor:
    sizes = tf.distribute.get_replica_context().all_gather(tf.shape(rows)[:1], axis=0)  # (R,)
    return tf.reduce_sum(sizes[: index()])


def _merged(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, place = tf.unique(gradient.indices)
    values = sums_by_place(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
