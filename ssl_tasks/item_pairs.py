"""What MicRec's semantic-level and session-level tasks share (Xie et al. 2022, eqs. 4-5)."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from pipeline.config import ItemPairsConfig, TowerConfig
from ssl_tasks.contrastive import info_nce_sampled
from ssl_tasks.task import Draw, Task, following, products_with_negatives
from towers import replicas
from towers.keras import keras, tf

if TYPE_CHECKING:
    from towers.two_tower import TwoTower


class ItemPairs(Task):
    """The vector of an item must be closer to that of a related item than to those of unrelated ones.

    Anchors are uniform over the corpus; an anchor without a related item adds nothing to the loss.
    """

    config: ItemPairsConfig

    @abstractmethod
    def draw_positive(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """int32 [n] -> (a related item each, int32 [n], 0 where there is none; whether there is one, bool [n])."""

    @abstractmethod
    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Which of `others` int32 [n, m] are related to, and so no negatives of, anchors int32 [n]: bool [n, m]."""

    def projector(self, tower: TowerConfig) -> keras.layers.Layer:
        return keras.layers.Dense(tower.hidden[-1], use_bias=False, name=f"{self.name}_projector")

    def draw(self, model: "TwoTower") -> Draw:
        anchors = self.draw_items()
        others = tf.gather(anchors, replicas.share(following(self.config.batch_size, self.config.negatives)))  # (n, m)
        anchors, positives, valid = (replicas.share(drawn) for drawn in (anchors, *self.draw_positive(anchors)))
        values = model.item_table(tf.concat((anchors, positives), axis=0))
        same = tf.equal(others, anchors[:, tf.newaxis])
        allowed = tf.logical_not(tf.logical_or(same, self.related(anchors, others)))

        def loss(encoded: tf.Tensor) -> tf.Tensor:
            return self._loss(model.projectors[self.name](encoded), allowed, valid)

        return Draw((model.item_embeddings(values),), loss)

    def _loss(self, vectors: tf.Tensor, allowed: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        """Vectors of the anchors, and behind them of the positives: float [2 n, D]; allowed: bool [n, m]."""
        anchors, positives = tf.split(vectors, 2)
        products = products_with_negatives(anchors, anchors, self.config)
        loss = info_nce_sampled(anchors, positives, products, self.config.temperature, allowed, valid)
        return replicas.portion(loss, tf.math.count_nonzero(valid, dtype=tf.int32))
