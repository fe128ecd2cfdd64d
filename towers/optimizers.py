"""Optimisers that touch only the embedding rows of the batch (docs/adr/0005-row-sparse-optimizers.md)."""

from pipeline.config import TrainConfig
from towers.keras import keras, tf
from towers.precision import loss_scaled
from towers.sparse_products import sums_by_place

BLOCK = 4096
"""Rows at a time: their copies, and those of their moments, stay in the processor's cache until they are written."""
ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
"""TensorFlow's name for a resource that lives as long as somebody holds its handle (ResourceHandle::ANONYMOUS_NAME)."""


class _RowSparse(keras.optimizers.Optimizer):
    """An optimiser that updates only the rows a sparse gradient names, and dense gradients as tf.keras's does."""

    def _deduplicate_sparse_grad(self, grads: list) -> list:
        # Called by apply_gradients. The rows of a model that embeds each distinct item once are distinct already, most
        # often ascending, and to see that costs less than to add them up.
        return [_distinct(each) if isinstance(each, tf.IndexedSlices) else each for each in grads]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        tables = [variable, *self.slots(self._index_dict[self._var_key(variable)])]
        count = tf.size(gradient.indices)

        def block(begin: tf.Tensor) -> list[tf.Tensor]:
            end = tf.minimum(begin + BLOCK, count)
            self._step_rows(tables, gradient.indices[begin:end], gradient.values[begin:end])
            return [end]

        tf.while_loop(lambda begin: begin < count, block, [tf.constant(0)], parallel_iterations=1)

    def _step_rows(self, tables: list[tf.Variable], rows: tf.Tensor, values: tf.Tensor) -> None:
        # The rows are copied, stepped by one operation where they lie side by side, and written back: TensorFlow's own
        # operations on rows of a table take longer, or (Adam) do not exist.
        copies = [_variable_of(tf.gather(table, rows)) for table in tables]
        self.step(values, *copies)
        for table, copy in zip(tables, copies, strict=True):
            stepped = tf.raw_ops.ReadVariableOp(resource=copy, dtype=table.dtype)
            table.scatter_update(tf.IndexedSlices(stepped, rows))

    def slots(self, index: int) -> list[tf.Variable]:
        """The optimiser's state for variable number `index`."""
        raise NotImplementedError

    def step(self, gradient: tf.Tensor, variable: tf.Tensor, *slots: tf.Tensor) -> None:
        """Update a variable and its slots, resource handles of float [n, D], for a gradient [n, D]."""
        raise NotImplementedError


class RowSparseAdam(_RowSparse, keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) that updates only the rows a sparse gradient names.

    A row's moments decay only when the row is in the batch; dense gradients are treated as in Adam. tf.keras's
    own Adam decays every row of an embedding table at each step, which costs three times the rest of the step
    at a million rows.
    """

    def slots(self, index: int) -> list[tf.Variable]:
        return [self._momentums[index], self._velocities[index]]

    def step(self, gradient: tf.Tensor, variable: tf.Tensor, *slots: tf.Tensor) -> None:
        beta_1, beta_2 = tf.cast(self.beta_1, gradient.dtype), tf.cast(self.beta_2, gradient.dtype)
        number = tf.cast(self.iterations + 1, gradient.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable,
            m=slots[0],
            v=slots[1],
            beta1_power=tf.pow(beta_1, number),
            beta2_power=tf.pow(beta_2, number),
            lr=tf.cast(self.learning_rate, gradient.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, gradient.dtype),
            grad=gradient,
        )


class RowSparseAdagrad(_RowSparse, keras.optimizers.Adagrad):
    """Adagrad (Duchi et al. 2011): the same results as tf.keras's, which adds to rows."""

    def slots(self, index: int) -> list[tf.Variable]:
        return [self._accumulators[index]]

    def step(self, gradient: tf.Tensor, variable: tf.Tensor, *slots: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyAdagradV2(
            var=variable,
            accum=slots[0],
            lr=tf.cast(self.learning_rate, gradient.dtype),
            epsilon=tf.cast(self.epsilon, gradient.dtype),  # beside the root, not in it: nothing beside sqrt(0.1)
            grad=gradient,
        )


def _variable_of(rows: tf.Tensor) -> tf.Tensor:
    """A resource handle of a variable [n, D] that is gone when the step is over."""
    handle = tf.raw_ops.VarHandleOp(dtype=rows.dtype, shape=[None, rows.shape[1]], shared_name=ANONYMOUS)
    tf.raw_ops.AssignVariableOp(resource=handle, value=rows)
    return handle


def _distinct(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The gradient with each row once, repeated ones added up."""
    rows, values = gradient.indices, gradient.values
    ascending = tf.reduce_all(rows[1:] > rows[:-1])
    values, rows = tf.cond(ascending, lambda: (values, rows), lambda: _added_up(values, rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _added_up(values: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values float [n, D] of rows int32 [n] -> those of the distinct rows, and these."""
    distinct, places = tf.unique(rows)
    count = tf.size(distinct)
    sums = tf.cond(count < tf.size(rows), lambda: sums_by_place(values, places, count), lambda: values)
    return sums, distinct


def make_optimizer(config: TrainConfig, steps: int) -> keras.optimizers.Optimizer:
    """The configured optimiser with its learning-rate schedule over `steps` steps.

    In float16 it is wrapped, to scale the loss.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    # Where there is a GPU, tf.keras would have XLA compile the update, anew for every number of rows that a batch has.
    chosen = RowSparseAdam(rate, jit_compile=False)
    if config.optimizer == "adagrad":
        chosen = RowSparseAdagrad(rate, initial_accumulator_value=0.1, jit_compile=False)
    return loss_scaled(chosen, config.precision)
