"""MicRec's semantic-level item contrastive task (Xie et al. 2022, section 3.4, eq. 4)."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import open_artifact
from pipeline.config import SemanticLevelConfig, TaskConfig
from pipeline.errors import ConfigError, nearest
from pipeline.storage import Location
from ssl_tasks.item_pairs import ItemPairs
from ssl_tasks.shared_values import SharedValues
from ssl_tasks.task import Corpus
from towers.keras import tf
from towers.randomness import uniform


class SemanticLevel(ItemPairs):
    """Items near in meaning must be closer than items far from it.

    P, the positives of an item, are its `top_k` nearest items by cosine of their embeddings (`relation: titles`), or
    the items that share a value of `taxonomy_field` (`taxonomy`). One of P is drawn uniformly per step, an unbiased
    draw of the sum over P. Negatives are uniform items outside P.
    """

    name = "semantic_level"
    needs = ("title_neighbours",)
    config: SemanticLevelConfig

    def __init__(self, config: SemanticLevelConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        self.relation: NearestItems | SharedValues
        if config.relation == "taxonomy":
            self.relation = read_taxonomy(config.taxonomy_field, corpus)
        else:
            self.relation = NearestItems(read_neighbours(corpus.artifacts["title_neighbours"], config.top_k))

    @classmethod
    def jobs(cls, config: TaskConfig) -> tuple[str, ...]:
        taxonomy = isinstance(config, SemanticLevelConfig) and config.relation == "taxonomy"
        return () if taxonomy else cls.needs

    def draw_positive(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.relation.draw(anchors)

    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        return self.relation.related(anchors, others)


class NearestItems:
    """Each item's related ones in a list of their own: int32 [R, k], 0 after the last. Methods as of ItemPairs."""

    def __init__(self, neighbours: np.ndarray) -> None:
        self.neighbours = tf.constant(neighbours, tf.int32)

    def draw(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        near = tf.gather(self.neighbours, anchors)  # (n, k)
        count = tf.reduce_sum(tf.cast(near > 0, tf.int32), axis=1)
        place = tf.cast(uniform(tf.shape(count)) * tf.cast(count, tf.float32), tf.int32)
        return tf.gather(near, tf.minimum(place, tf.maximum(count - 1, 0)), batch_dims=1), count > 0

    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        near = tf.gather(self.neighbours, anchors)  # (n, k)
        return tf.reduce_any(tf.equal(others[:, :, tf.newaxis], near[:, tf.newaxis, :]), axis=2)  # (n, m)


def read_neighbours(path: Location, top_k: int) -> np.ndarray:
    """The `top_k` nearest items of each from the artefact: int32 [R, top_k]. Raises ArtifactError, ConfigError."""
    artifact = open_artifact(path, "title_neighbours", 2)
    if (kept := artifact.config["neighbours"]) < top_k:
        raise ConfigError(
            f"`tasks.semantic_level.top_k` is {top_k}, but title_neighbours holds {kept} per item. Cure: raise "
            "`prepare.titles.neighbours` and run `twotower prepare`"
        )
    parts = [pq.read_table(part, columns=["neighbours"])["neighbours"] for part in artifact.parts("part-")]
    lists = pa.chunked_array([chunk for part in parts for chunk in part.chunks]).combine_chunks()
    return lists.flatten().to_numpy().reshape(-1, kept)[:, :top_k]


def read_taxonomy(name: str | None, corpus: Corpus) -> SharedValues:
    """The relation by an item field. Raises ConfigError unless it is a categorical or multi-valued one."""
    fields = {field.name: field for field in corpus.items.fields if field.kind != "numeric" and field.name != "item_id"}
    if name is None or name not in fields:
        raise ConfigError(
            "`tasks.semantic_level.relation` is `taxonomy`, but `tasks.semantic_level.taxonomy_field` is "
            f"{name!r}, which is no categorical or multi-valued item field.{nearest(name or '', fields)} There are: "
            f"{sorted(fields)}"
        )
    return SharedValues(corpus.items.columns[name], fields[name].missing)
