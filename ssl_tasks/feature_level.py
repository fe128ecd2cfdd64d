"""MicRec's feature-level item contrastive task (Xie et al. 2022, section 3.3, eqs. 2-3)."""

from typing import TYPE_CHECKING

from pipeline.config import FeatureLevelConfig, TowerConfig
from ssl_tasks.contrastive import info_nce_sampled
from ssl_tasks.task import Task, following
from towers.keras import keras, tf
from towers.randomness import uniform

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

    def loss(self, model: "TwoTower", training: bool) -> tf.Tensor:
        values = model.item_table(self.draw_items())
        clean = model.item_embeddings(values)  # (n, W)
        project = model.projectors[self.name]
        anchors, augmented = project(clean), project(self.augment(model, values, clean))
        negatives = tf.gather(augmented, following(tf.shape(clean)[0], self.config.negatives))  # (n, m, D)
        return info_nce_sampled(anchors, augmented, negatives, self.config.temperature)

    def augment(self, model: "TwoTower", values: dict[str, tf.Tensor], clean: tf.Tensor) -> tf.Tensor:
        """An augmentation of n items: their field values and raw embeddings float [n, W] -> float [n, W]."""
        kind, ratio = self.config.augmentation, self.config.mask_ratio
        if kind == "element":
            return clean * _kept(tf.shape(clean), ratio, clean.dtype)
        fields = model.item_embeddings.fields
        if kind == "field":
            kept = _kept((tf.shape(clean)[0], len(fields)), ratio, clean.dtype)
            return clean * tf.repeat(kept, model.item_embeddings.dim, axis=1)  # (n, F) -> (n, F*D)
        multi = [field.name for field in fields if field.kind == "multi"]
        keep = {name: uniform(tf.shape(values[name])) >= ratio for name in multi}
        return model.item_embeddings(values, keep=keep)


def _kept(shape: tf.Tensor | tuple, ratio: float, dtype: tf.DType) -> tf.Tensor:
    """Independent draws: 0 with probability `ratio`, else 1."""
    return tf.cast(uniform(shape) >= ratio, dtype)
