"""MicRec's feature-level item contrastive task (Xie et al. 2022, section 3.3, eqs. 2-3)."""

from typing import TYPE_CHECKING

from pipeline.config import FeatureLevelConfig, TowerConfig
from ssl_tasks.contrastive import info_nce_sampled
from ssl_tasks.task import Draw, Task, products_with_negatives
from towers import replicas
from towers.keras import keras, tf

if TYPE_CHECKING:
    from towers.two_tower import TwoTower


class FeatureLevel(Task):
    """An item's raw embedding must be closer to its own augmentation than to other items' augmentations.

    `element`: each element of the concatenated embedding is zeroed with `mask_ratio`. `field`: each whole field is.
    `categorical`: each value of a multi-valued field is dropped.
    """

    name = "feature_level"
    config: FeatureLevelConfig

    def projector(self, tower: TowerConfig) -> keras.layers.Layer:
        return keras.layers.Dense(tower.hidden[-1], use_bias=False, name="feature_level_projector")

    def draw(self, model: "TwoTower") -> Draw:
        values = model.item_table(replicas.share(self.draw_items()))
        clean = model.item_embeddings(values)  # (n, W)
        project = model.projectors[self.name]
        anchors, augmented = project(clean), project(self.augment(model, values, clean))
        return Draw((), lambda: self._loss(anchors, augmented))  # raw embeddings: nothing for the tower to encode

    def _loss(self, anchors: tf.Tensor, augmented: tf.Tensor) -> tf.Tensor:
        products = products_with_negatives(anchors, augmented, self.config)
        loss = info_nce_sampled(anchors, augmented, products, self.config.temperature)
        return replicas.portion(loss, tf.shape(anchors)[0])

    def augment(self, model: "TwoTower", values: dict[str, tf.Tensor], clean: tf.Tensor) -> tf.Tensor:
        """An augmentation of n items: their field values and raw embeddings float [n, W] -> float [n, W]."""
        kind = self.config.augmentation
        if kind == "element":
            return clean * self._kept(clean.shape[1], clean.dtype)
        fields = model.item_embeddings.fields
        if kind == "field":
            kept = self._kept(len(fields), clean.dtype)
            return clean * tf.repeat(kept, model.item_embeddings.dim, axis=1)  # (n, F) -> (n, F*D)
        multi = [field.name for field in fields if field.kind == "multi"]
        keep = {name: self._kept(values[name].shape[1], tf.bool) for name in multi}
        return model.item_embeddings(values, keep=keep)

    def _kept(self, width: int, dtype: tf.DType) -> tf.Tensor:
        """Independent draws for this replica's items, [n, width]: 0 with probability `mask_ratio`, else 1."""
        return tf.cast(self.draw_values(width) >= self.config.mask_ratio, dtype)
