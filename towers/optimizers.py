"""Optimisers that touch only the embedding rows of the batch (docs/adr/0005-row-sparse-optimizers.md)."""

from pipeline.config import TrainConfig
from towers.keras import keras, tf
from towers.precision import loss_scaled


class _RowSparse(keras.optimizers.Optimizer):
    """An optimiser that updates only the rows a sparse gradient names, and dense gradients as tf.keras's does."""

    def _deduplicate_sparse_grad(self, grads: list) -> list:
        # Called by apply_gradients. The rows of a model that embeds each distinct item once are distinct already, and
        # to see that costs less than to add them up.
        return [_distinct(each) if isinstance(each, tf.IndexedSlices) else each for each in grads]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        rows = gradient.indices
        step = self.step_of_rows(gradient.values, rows, self._index_dict[self._var_key(variable)], variable.dtype)
        _write(variable, rows, tf.gather(variable, rows) - step)

    def step_of_rows(self, g: tf.Tensor, rows: tf.Tensor, index: int, dtype: tf.DType) -> tf.Tensor:
        """What to subtract from the rows of variable number `index`, float [n, D], for their gradients g [n, D]."""
        raise NotImplementedError


class RowSparseAdam(_RowSparse, keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) that updates only the rows a sparse gradient names.

    A row's moments decay only when the row is in the batch; dense gradients are treated as in Adam. tf.keras's
    own Adam decays every row of an embedding table at each step, which costs three times the rest of the step
    at a million rows.
    """

    def step_of_rows(self, g: tf.Tensor, rows: tf.Tensor, index: int, dtype: tf.DType) -> tf.Tensor:
        m, v = self._momentums[index], self._velocities[index]
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        step = tf.cast(self.iterations + 1, dtype)
        correction = tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        m_rows = beta_1 * tf.gather(m, rows) + (1 - beta_1) * g
        v_rows = beta_2 * tf.gather(v, rows) + (1 - beta_2) * tf.square(g)
        _write(m, rows, m_rows)
        _write(v, rows, v_rows)
        return tf.cast(self.learning_rate, dtype) * correction * m_rows / (tf.sqrt(v_rows) + self.epsilon)


class RowSparseAdagrad(_RowSparse, keras.optimizers.Adagrad):
    """Adagrad (Duchi et al. 2011): the same results as tf.keras's, which adds to rows."""

    def step_of_rows(self, g: tf.Tensor, rows: tf.Tensor, index: int, dtype: tf.DType) -> tf.Tensor:
        sums = self._accumulators[index]
        summed = tf.gather(sums, rows) + tf.square(g)
        _write(sums, rows, summed)
        return tf.cast(self.learning_rate, dtype) * g / tf.sqrt(summed + self.epsilon)


def _write(variable: tf.Variable, rows: tf.Tensor, values: tf.Tensor) -> None:
    """Set some distinct rows. (TensorFlow takes longer to add to rows than to read and write them.)"""
    variable.scatter_update(tf.IndexedSlices(values, rows))


def _distinct(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The gradient with each row once, repeated ones added up."""
    rows, places = tf.unique(gradient.indices)
    count = tf.size(rows)
    values = tf.cond(
        count < tf.size(gradient.indices),
        lambda: tf.math.unsorted_segment_sum(gradient.values, places, count),
        lambda: gradient.values,
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def make_optimizer(config: TrainConfig, steps: int) -> keras.optimizers.Optimizer:
    """The configured optimiser with its learning-rate schedule over `steps` steps.

    In float16 it is wrapped, to scale the loss.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    chosen = RowSparseAdam(rate)
    if config.optimizer == "adagrad":
        chosen = RowSparseAdagrad(rate, initial_accumulator_value=0.1)
    return loss_scaled(chosen, config.precision)
