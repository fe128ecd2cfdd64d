"""Optimisers that touch only the embedding rows of the batch (docs/adr/0005-row-sparse-optimizers.md)."""

from pipeline.config import TrainConfig
from towers.keras import keras, tf
from towers.precision import loss_scaled


class RowSparseAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) that updates only the rows a sparse gradient names.

    A row's moments decay only when the row is in the batch; dense gradients are treated as in Adam. tf.keras's
    own Adam decays every row of an embedding table at each step, which costs three times the rest of the step
    at a million rows.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        index = self._index_dict[self._var_key(variable)]
        m, v = self._momentums[index], self._velocities[index]
        beta_1, beta_2 = tf.cast(self.beta_1, variable.dtype), tf.cast(self.beta_2, variable.dtype)
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        alpha = tf.cast(self.learning_rate, variable.dtype) * correction
        rows, g = gradient.indices, gradient.values  # apply_gradients has summed repeated rows
        m_rows = beta_1 * tf.gather(m, rows) + (1 - beta_1) * g
        v_rows = beta_2 * tf.gather(v, rows) + (1 - beta_2) * tf.square(g)
        m.scatter_update(tf.IndexedSlices(m_rows, rows))
        v.scatter_update(tf.IndexedSlices(v_rows, rows))
        variable.scatter_sub(tf.IndexedSlices(alpha * m_rows / (tf.sqrt(v_rows) + self.epsilon), rows))


def make_optimizer(config: TrainConfig, steps: int) -> keras.optimizers.Optimizer:
    """The configured optimiser with its learning-rate schedule over `steps` steps.

    `adam`: RowSparseAdam. `adagrad`: tf.keras's, whose sparse update is row-sparse already. In float16 either is
    wrapped, to scale the loss.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    chosen = RowSparseAdam(rate)
    if config.optimizer == "adagrad":
        chosen = keras.optimizers.Adagrad(rate, initial_accumulator_value=0.1)
    return loss_scaled(chosen, config.precision)
