"""The two-tower model on TensorFlow Recommenders: loss = retrieval + sum of weight x task."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.catalogue import FieldTable
from pipeline.config import Config
from towers import replicas
from towers.blocks import unit_norm
from towers.cold_start import ColdStart, hide_users
from towers.distinct import distinct
from towers.embeddings import FieldEmbeddings, ItemTable, select_fields
from towers.history import History, for_two, take
from towers.keras import keras, tf, tfrs
from towers.negatives import Negatives
from towers.precision import wide
from towers.randomness import at_step, uniform
from towers.registry import TOWERS

if TYPE_CHECKING:
    from ssl_tasks.task import Task

VECTOR_BATCH = 4096


class UserTower(keras.Model):
    """Encoded request -> user vector; what the bundle exports.

    Inputs, a dict of int32 tensors: `history` [B, L], oldest first, padded with 0 on the left, and each user field,
    [B] or [B, M] when multi. Output: float32 [B, D].
    """

    def __init__(
        self, config: Config, item_table: ItemTable, item_embeddings: FieldEmbeddings, user_fields: FieldTable
    ) -> None:
        super().__init__(name="user")
        self.config = config
        self.item_table, self.item_embeddings = item_table, item_embeddings
        self.field_shapes = {field.name: user_fields.columns[field.name].shape[1:] for field in user_fields.fields}
        self.user_embeddings = FieldEmbeddings(user_fields.fields, config.tower.embedding_dim, "user_field_embeddings")
        self.tower = TOWERS[config.tower.kind][0](config.tower, item_embeddings.width)

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.encode(self._embed(inputs, fixed=False), None, inputs, training)

    def serve(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """As `call`, in tensors whose sizes follow from the number of users: LiteRT plans them once, not each time."""
        return self.encode(self._embed(inputs, fixed=True), None, inputs, training=False, fixed=True)

    def _embed(self, inputs: dict[str, tf.Tensor], fixed: bool) -> tf.Tensor:
        values = self.item_table(tf.reshape(inputs["history"], (-1,)))
        return self.item_embeddings(values, fixed=fixed)  # (B*L, W)

    def encode(
        self,
        embedded: tf.Tensor,
        rows: tf.Tensor | None,
        inputs: dict[str, tf.Tensor],
        training: bool,
        fixed: bool = False,
    ) -> tf.Tensor:
        """Encode users whose history items are embedded already (`History`): float32 [B, D]."""
        present = inputs["history"] > 0
        if training and self.config.tower.history_dropout:
            drawn = uniform(tf.shape(present), own=True) >= self.config.tower.history_dropout
            present = tf.logical_and(present, drawn)
        history = History(embedded, present, rows)
        fields = None
        if self.user_embeddings.fields:
            values = {name: inputs[name] for name in self.field_shapes}
            if training and self.config.tower.user_dropout:
                values = hide_users(self.user_embeddings.fields, values, self.config.tower.user_dropout)
            fields = self.user_embeddings(values, fixed=fixed)
        vectors = self.tower(history, fields, training=training)
        return unit_norm(vectors) if self.config.tower.normalize else vectors


class TwoTower(tfrs.models.Model):
    """Trains both towers and the SSL tasks together (Yao et al. 2021, eq. 5; Xie et al. 2022, eq. 8).

    Args:
      config: `tower`, `loss` and `train.seed` are read.
      items: field values of the catalogue, row 0 the unknown item; its `item_id` column is 0 .. R - 1.
      users: field values of the users, for the shapes and sizes of the user fields.
      item_counts: int64 [R], train events per item, row 0 ignored: the sampling distribution of in-batch negatives.
      tasks: the SSL tasks that are switched on.
    """

    def __init__(
        self,
        config: Config,
        items: FieldTable,
        users: FieldTable,
        item_counts: np.ndarray,
        tasks: Sequence["Task"] = (),
    ) -> None:
        super().__init__(name="two_tower")
        self.config = config
        items = select_fields(items, config.tower.item_fields, "tower.item_fields")
        users = select_fields(users, config.tower.user_fields, "tower.user_fields")
        rate = config.tower.id_dropout
        self.cold_start = ColdStart(items, item_counts > 0, rate) if rate else None
        self.item_table = ItemTable(self.cold_start.table() if self.cold_start else items)
        self.item_embeddings = FieldEmbeddings(
            items.fields, config.tower.embedding_dim, maskable=any(task.masks_fields for task in tasks)
        )
        self.user_tower = UserTower(config, self.item_table, self.item_embeddings, users)
        self.item_tower = TOWERS[config.tower.kind][1](config.tower)
        self.negatives = Negatives(config.loss, item_counts, config.tower.hidden[-1])
        self.tasks = list(tasks)
        projectors = {task.name: task.projector(config.tower) for task in tasks}
        self.projectors = {name: layer for name, layer in projectors.items() if layer is not None}
        self.means = {name: replicas.Mean(name) for name in ("retrieval", *(task.name for task in tasks))}

    def user_input_spec(self) -> dict[str, tuple[int, ...]]:
        """The shape of each user tower input without the batch dimension; all are int32."""
        return {"history": (self.config.tower.history_length,), **self.user_tower.field_shapes}

    def encode_items(self, embeddings: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Concatenated field embeddings float32 [n, W] -> item vectors [n, D]."""
        vectors = self.item_tower(embeddings, training=training)
        return unit_norm(vectors) if self.config.tower.normalize else vectors

    def call(self, items: tf.Tensor) -> tf.Tensor:
        """Item indices int32 [n] -> item vectors float32 [n, D]."""
        return self.encode_items(self.item_embeddings(self.item_table(items)))

    def train_step(self, inputs: Mapping[str, tf.Tensor], number: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """One update; its random draws depend on `train.seed` and on the number of updates before, and on no more.

        In float16 the loss is scaled for the gradient. On several devices (towers/replicas.py) the inputs are those of
        all of them, dropout depends on the replica too, and the rest is as on one.

        Args: inputs: see `compute_loss`. number: int64, of updates before, where steps overlap and none can count them.
        Returns: the `loss` of the batch, and `gradient_norm`, that of all gradients together.
        """
        scaled = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
        before = self.optimizer.iterations if number is None else number
        with at_step(self.config.train.seed, before), tf.GradientTape() as tape:
            loss = self.compute_loss(replicas.share_batch(inputs), training=True)
            target = self.optimizer.get_scaled_loss(loss) if scaled else loss
        gradients = replicas.summed(tape.gradient(target, self.trainable_variables))
        if scaled:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        pairs = zip(gradients, self.trainable_variables, strict=True)
        self.optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        return {"loss": replicas.total(loss), "gradient_norm": tf.linalg.global_norm(gradients)}

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The joint loss of one batch.

        Args:
          inputs: the user tower's inputs, `positive` int32 [B], `weight` float32 [B], and what the negatives of the
            configuration need: `clicked` int32 [P], the items that the users clicked, the positives among them, and
            `clicked_by` int32 [P] ascending, the places of those users in the batch; `uniform_negatives` int32 [n];
            `explicit_negatives` int32 [B, n], 0 = none; `user_row` int32 [B], their rows among the mined negatives.
            `distinct_items` and `item_rows` save time where they are there (towers/distinct.py).
        Returns: a float scalar, on several devices the portion of it that is this one's.
        """
        loss = self.retrieval_loss(inputs, training)
        self.means["retrieval"].update_state(replicas.total(loss))
        for task, task_loss in zip(self.tasks, self.task_losses(training), strict=True):
            self.means[task.name].update_state(replicas.total(task_loss))
            loss += task.weight * task_loss
        return loss

    def task_losses(self, training: bool) -> list[tf.Tensor]:
        """The loss of each SSL task. The item tower encodes all that they drew at once: fewer and larger products."""
        draws = [task.draw(self) for task in self.tasks]
        embeddings = [each for draw in draws for each in draw.embeddings]
        if not embeddings:
            return [draw.loss() for draw in draws]
        encoded = self.encode_items(tf.concat(embeddings, axis=0), training)
        vectors = iter(tf.split(encoded, [tf.shape(each)[0] for each in embeddings], num=len(embeddings)))
        return [draw.loss(*itertools.islice(vectors, len(draw.embeddings))) for draw in draws]

    def retrieval_loss(self, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """The softmax of the positives against the negatives of the configuration (towers/negatives.py)."""
        places = distinct(inputs, self.negatives.items(inputs)[1:])
        embedded = self._embed(places.items, training)
        embedded, of_positives = for_two(embedded)
        users = self.user_tower.encode(embedded, places.history, inputs, training)
        items = [tf.gather(of_positives, places.positives), *(take(embedded, rows) for rows in places.others)]
        vectors = [self.encode_items(each, training) for each in items]
        return self.negatives.loss(users, vectors, inputs, training)

    def _embed(self, items: tf.Tensor, training: bool) -> tf.Tensor:
        """Embed the distinct items of a step: int32 [U] -> float32 [U, W].

        `tower.id_dropout` is drawn here, once per distinct item and step: the positive of one user is a negative of all
        others, and one softmax can only hold one vector of it. Over the steps each item is new equally often, in
        histories as in the item tower.
        """
        values = self.item_table(items)
        if training and self.cold_start:
            values = self.cold_start(values)
        return self.item_embeddings(values)

    def item_vectors(self, indices: np.ndarray) -> np.ndarray:
        """int32 [n] -> float32 [n, D], in batches."""
        batches = np.split(indices, range(VECTOR_BATCH, len(indices), VECTOR_BATCH))
        return np.concatenate([self._item_vectors(tf.constant(b, tf.int32)).numpy() for b in batches])

    def user_vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The user tower's inputs for n users -> float32 [n, D], in batches."""
        count = len(inputs["history"])
        batches = [slice(start, start + VECTOR_BATCH) for start in range(0, max(count, 1), VECTOR_BATCH)]
        return np.concatenate(
            [self._user_vectors({k: tf.constant(v[b], tf.int32) for k, v in inputs.items()}).numpy() for b in batches]
        )

    @tf.function(reduce_retracing=True)
    def _item_vectors(self, indices: tf.Tensor) -> tf.Tensor:
        return wide(self(indices))

    @tf.function(reduce_retracing=True)
    def _user_vectors(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return wide(self.user_tower(inputs))
