"""MicRec's semantic-level item contrastive task (Xie et al. 2022, section 3.4, eq. 4)."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts import open_artifact
from pipeline.config import SemanticLevelConfig, TowerConfig
from pipeline.errors import ArtifactError
from ssl_tasks.contrastive import info_nce_sampled
from ssl_tasks.task import Corpus, Task, following
from towers.keras import keras, tf

if TYPE_CHECKING:
    from towers.two_tower import TwoTower


class SemanticLevel(Task):
    """Items with near titles must be closer than items with far ones.

    P, the positives of an item, are its `top_k` nearest titles by cosine of BERT embeddings; one of them is drawn
    uniformly per step, an unbiased draw of the sum over P. Negatives are uniform items outside P.
    """

    name = "semantic_level"
    needs = ("title_neighbours",)
    config: SemanticLevelConfig

    def __init__(self, config: SemanticLevelConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        artifact = open_artifact(corpus.artifacts["title_neighbours"], "title_neighbours", 1)
        neighbours = np.load(artifact.file("neighbours.npy"))
        if neighbours.shape[1] < config.top_k:
            raise ArtifactError(
                f"`tasks.semantic_level.top_k` is {config.top_k}, but title_neighbours holds {neighbours.shape[1]} "
                "per item. Cure: raise `prepare.titles.neighbours` and run `twotower prepare`"
            )
        self.neighbours = tf.constant(neighbours[:, : config.top_k], tf.int32)  # (R, k), 0 where there is none

    def projector(self, tower: TowerConfig) -> keras.layers.Layer:
        return keras.layers.Dense(tower.hidden[-1], use_bias=False, name="semantic_level_projector")

    def loss(self, model: "TwoTower", training: bool) -> tf.Tensor:
        anchors = self.draw_items()
        near = tf.gather(self.neighbours, anchors)  # (n, k)
        positives, valid = draw_positive(near)
        project = model.projectors[self.name]
        embedded = model.encode_items(
            model.item_embeddings(model.item_table(tf.concat((anchors, positives), axis=0))), training
        )
        anchor_vectors, positive_vectors = tf.split(project(embedded), 2)
        places = following(tf.size(anchors), self.config.negatives)  # (n, m)
        ids = tf.gather(anchors, places)
        is_near = tf.reduce_any(tf.equal(ids[:, :, tf.newaxis], near[:, tf.newaxis, :]), axis=2)  # (n, m)
        allowed = tf.logical_not(tf.logical_or(is_near, tf.equal(ids, anchors[:, tf.newaxis])))
        negatives = tf.gather(anchor_vectors, places)  # (n, m, D)
        return info_nce_sampled(anchor_vectors, positive_vectors, negatives, self.config.temperature, allowed, valid)


def draw_positive(near: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw one of each row's positives.

    int32 [n, k], values first and 0 padding after -> (positives int32 [n], whether there is one bool [n]).
    """
    count = tf.reduce_sum(tf.cast(near > 0, tf.int32), axis=1)
    place = tf.cast(tf.random.uniform(tf.shape(count)) * tf.cast(count, tf.float32), tf.int32)
    return tf.gather(near, tf.minimum(place, tf.maximum(count - 1, 0)), batch_dims=1), count > 0
