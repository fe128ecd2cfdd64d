"""MicRec's semantic-level item contrastive task (Xie et al. 2022, section 3.4, eq. 4)."""

import numpy as np

from pipeline.artifacts import open_artifact
from pipeline.config import SemanticLevelConfig
from pipeline.errors import ArtifactError
from ssl_tasks.item_pairs import ItemPairs
from ssl_tasks.task import Corpus
from towers.keras import tf


class SemanticLevel(ItemPairs):
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

    def draw_positive(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return draw_one(tf.gather(self.neighbours, anchors))

    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        near = tf.gather(self.neighbours, anchors)  # (n, k)
        return tf.reduce_any(tf.equal(others[:, :, tf.newaxis], near[:, tf.newaxis, :]), axis=2)  # (n, m)


def draw_one(near: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw one of each row's values uniformly.

    int32 [n, k], values first and 0 padding after -> (values int32 [n], whether there is one bool [n]).
    """
    count = tf.reduce_sum(tf.cast(near > 0, tf.int32), axis=1)
    place = tf.cast(tf.random.uniform(tf.shape(count)) * tf.cast(count, tf.float32), tf.int32)
    return tf.gather(near, tf.minimum(place, tf.maximum(count - 1, 0)), batch_dims=1), count > 0
