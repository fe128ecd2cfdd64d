"""The negatives of a batch: where they come from, how often each is expected, and the loss they give.

Sources of shared negatives are drawn at random, and corrected for that (towers/losses.py). With q_j the share of the
train events that have item j, B the batch, M the items in the queue, m uniform draws and R - 1 items in the catalogue:

    e_j = (B - 1 + M) q_j + m / (R - 1)

An epoch's batches are drawn without replacement, so that beside one of E events the others have another item j with
probability c_j / (E - 1), where q_j is c_j / E: a difference of one part in E. Without uniform draws the catalogue is
the items with a train event: no other is ever drawn. The queue's draws are corrected exactly, but its vectors are those
of past steps: a bias that the learning rate and the length of the queue decide.

Own negatives (explicit, mined) belong to one user each and are not drawn.
"""

import numpy as np

from pipeline.config_loss import LossConfig
from towers import replicas
from towers.frequency import CountedFrequency, StreamingFrequency
from towers.item_queue import ItemQueue
from towers.keras import keras, tf
from towers.losses import MASKED, Shared, occurrences, own_logits, softmax_loss
from towers.precision import wide


class Negatives(keras.layers.Layer):
    """The retrieval loss of a configuration, with all that it has to remember.

    Args:
      config: the `loss` section.
      counts: int64 [R], train events per item, row 0 ignored.
      dim: D of the vectors.
    """

    def __init__(self, config: LossConfig, counts: np.ndarray, dim: int) -> None:
        super().__init__(name="negatives", trainable=False)
        self.config, self.sources = config, config.negatives
        self.catalogue = len(counts) - 1
        streaming = config.frequency.source == "streaming"
        self.frequency = StreamingFrequency(len(counts), config.frequency) if streaming else CountedFrequency(counts)
        self.queue: ItemQueue | None = None
        if self.sources.queue:
            self.queue = ItemQueue(self.sources.queue, dim, self.sources.queue_warmup)
        self.mined: tf.Variable | None = None

    def keep_mined(self, users: int) -> tf.Variable:
        """Make room for the mined negatives of so many users: int32 [users, `hard.count`], 0 = none."""
        self.mined = tf.Variable(
            tf.zeros((users, self.sources.hard.count), tf.int32), trainable=False, name="mined_negatives"
        )
        return self.mined

    def items(self, inputs: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """The items whose vectors the loss needs, in its order: int32 [n_g] each, the distinct positives first.

        Of what is drawn once a batch each replica encodes its share.
        """
        groups = [tf.unique(inputs["positive"])[0]]
        if self.sources.uniform:
            groups.append(replicas.share(inputs["uniform_negatives"]))
        own = self._own(inputs)
        if own is not None:
            groups.append(tf.unique(tf.reshape(own, (-1,)))[0])  # (B, M) -> (B * M,) -> (U,)
        return groups

    def loss(
        self, users: tf.Tensor, vectors: list[tf.Tensor], inputs: dict[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        """The loss of a batch.

        Args:
          users: float [B, D]. vectors: those of `items(inputs)`, float [n_g, D] each.
          inputs: see `TwoTower.compute_loss`.
          training: whether to remember the batch: in the queue, and in the estimated frequencies.
        Returns: a float32 scalar.
        """
        positive, temperature = inputs["positive"], self.config.temperature
        positives = tf.gather(vectors[0], tf.unique(positive)[1])  # (U, D) -> (B, D)
        items, columns, frequency, copies = self._shared(vectors, inputs)
        drawn = self._drawn(replicas.total(tf.size(positive)), columns)
        log_expected = self._log_expected(frequency, drawn) - tf.math.log(copies)
        empty = tf.where(columns > 0, log_expected, -MASKED)
        own = self._own(inputs)
        scaled = users / temperature
        excluded = [occurrences(*known, columns) for known in self._not_negatives(inputs, own)]
        own_part = None if own is None else self._own_logits(users, vectors[-1], own, positive)
        scores = tf.reduce_sum(wide(users) * wide(positives), axis=1) / temperature  # (B,)
        if self.config.logq == "all":
            scores -= self._log_expected(self.frequency.probability(positive), drawn)
        loss = softmax_loss(scores, Shared(scaled, items, empty, excluded), own_part, inputs["weight"])
        if training:
            self._remember(positives, positive)
        return replicas.portion(loss, tf.reduce_sum(inputs["weight"]))

    def _shared(
        self, vectors: list[tf.Tensor], inputs: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """All sources side by side: vectors [n, D], items int32 [n] (0 = none), frequency and copies float32 [n].

        A positive that a replica has several times is one column that counts as often: fewer columns to score.
        """
        sources = []
        if self.sources.in_batch:
            items, _, copies = tf.unique_with_counts(inputs["positive"])
            items, copies = replicas.gathered(items), tf.cast(replicas.gathered(copies), tf.float32)
            sources.append((replicas.gathered(vectors[0]), items, self.frequency.probability(items), copies))
        if self.sources.uniform:
            drawn = inputs["uniform_negatives"]
            frequency = self.frequency.probability(drawn)
            sources.append((replicas.gathered(vectors[1]), drawn, frequency, tf.ones_like(frequency)))
        if self.queue is not None:
            queued, items, frequency = self.queue.read()
            sources.append((tf.cast(queued, vectors[0].dtype), items, frequency, tf.ones_like(frequency)))
        columns, items, frequency, copies = (tf.concat(part, axis=0) for part in zip(*sources, strict=True))
        return columns, items, frequency, copies

    def _drawn(self, batch: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """How many of the columns were drawn as clicks are, the user's own aside: a float32 scalar."""
        drawn = tf.constant(0, tf.int32)
        if self.sources.in_batch:
            drawn += batch - 1
        if self.queue is not None:
            drawn += tf.math.count_nonzero(columns[-self.queue.size :], dtype=tf.int32)
        return tf.cast(drawn, tf.float32)

    def _log_expected(self, frequency: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """log of how often an item of that frequency is expected among the columns: float32 [n]; 0 without logQ."""
        if self.config.logq == "none":
            return tf.zeros_like(frequency)
        expected = drawn * frequency + self.sources.uniform / self.catalogue
        return tf.math.log(tf.maximum(expected, 1e-30))

    def _own(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor | None:
        """The explicit and mined negatives of each user, int32 [B, M], 0 = none."""
        groups = [inputs["explicit_negatives"]] if self.sources.explicit else []
        if self.mined is not None:
            groups.append(tf.gather(self.mined, inputs["user_row"]))
        return tf.concat(groups, axis=1) if groups else None

    def _own_logits(self, users: tf.Tensor, vectors: tf.Tensor, own: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
        """The logits of `own`, int32 [B, M]; vectors: those of its distinct items, float [U, D]."""
        count = own.shape[1]
        places = tf.reshape(tf.unique(tf.reshape(own, (-1,)))[1], tf.shape(own))  # (B * M,) -> (B, M)
        same = own[:, :, tf.newaxis] == own[:, tf.newaxis, :]  # (B, M, M)
        repeated = tf.reduce_any(tf.logical_and(same, np.tri(count, k=-1, dtype=bool)), axis=2)
        other = tf.logical_and(own > 0, own != positive[:, tf.newaxis])
        present = tf.logical_and(other, tf.logical_not(repeated))
        weights = np.full(count, self.sources.hard.weight, np.float32)
        weights[: self.sources.explicit] = self.sources.explicit_weight
        items = tf.gather(vectors, places)  # (B, M, D)
        return own_logits(users, items, tf.constant(np.log(weights)), present, self.config.temperature)

    def _not_negatives(self, inputs: dict[str, tf.Tensor], own: tf.Tensor | None) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Groups of (rows int32 [P], ascending, items int32 [P]) that no draw may be: the positive, what was clicked
        (the positive with it), own negatives.
        """
        positive = inputs["positive"]
        every = tf.range(tf.size(positive))
        groups = [(inputs["clicked_by"], inputs["clicked"]) if self.sources.mask_clicked else (every, positive)]
        if own is not None:
            groups.append((tf.repeat(every, own.shape[1]), tf.reshape(own, (-1,))))  # (B, M) -> (B * M,)
        return groups

    def _remember(self, vectors: tf.Tensor, positive: tf.Tensor) -> None:
        if self.queue is not None or isinstance(self.frequency, StreamingFrequency):
            positive = replicas.gathered(positive)
        if self.queue is not None:
            vectors = replicas.gathered(tf.stop_gradient(vectors))
            self.queue.push(vectors, positive, self.frequency.probability(positive))
        if isinstance(self.frequency, StreamingFrequency):
            self.frequency.update(positive)
