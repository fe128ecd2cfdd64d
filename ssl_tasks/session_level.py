"""MicRec's session-level item contrastive task (Xie et al. 2022, section 3.5, eq. 5)."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import open_artifact
from pipeline.config import SessionLevelConfig
from pipeline.errors import ArtifactError
from ssl_tasks.item_pairs import ItemPairs
from ssl_tasks.pair_set import PairSet
from ssl_tasks.task import Corpus
from towers.keras import tf
from towers.randomness import uniform


class SessionLevel(ItemPairs):
    """Items that share sessions must be closer than items that never did.

    A positive is drawn with probability proportional to its co-occurrence weight. Negatives are uniform items that
    the artefact does not list as co-occurring with the anchor.
    """

    name = "session_level"
    needs = ("session_cooccurrence",)
    config: SessionLevelConfig

    def __init__(self, config: SessionLevelConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        artifact = open_artifact(corpus.artifacts["session_cooccurrence"], "session_cooccurrence", 1)
        parts = [pq.read_table(path) for path in artifact.parts("part-")]
        pairs = Cooccurrence.from_table(pa.concat_tables(parts), corpus.rows)
        if not len(pairs.neighbours):
            raise ArtifactError(
                "session_cooccurrence holds no pair of items. Cure: raise `prepare.session.gap_seconds`, or set "
                "`tasks.session_level.weight` to 0"
            )
        self.offsets, self.neighbours = tf.constant(pairs.offsets), tf.constant(pairs.neighbours)
        self.cumulative = tf.constant(pairs.cumulative)
        self.pairs = PairSet(pairs.items, pairs.neighbours, corpus.rows)

    def draw_positive(self, anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start, stop = tf.gather(self.offsets, anchors), tf.gather(self.offsets, anchors + 1)
        low, high = tf.gather(self.cumulative, start), tf.gather(self.cumulative, stop)
        drawn = low + uniform(tf.shape(low), dtype=tf.float64) * (high - low)
        place = tf.searchsorted(self.cumulative, drawn, side="right", out_type=tf.int64) - 1
        # Rounding may step one past the row; an empty row has no right answer and is not valid.
        place = tf.clip_by_value(place, start, tf.maximum(stop - 1, start))
        place = tf.minimum(place, tf.size(self.neighbours, out_type=tf.int64) - 1)
        valid = stop > start
        return tf.where(valid, tf.gather(self.neighbours, place), 0), valid

    def related(self, anchors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        return self.pairs.contains(anchors[:, tf.newaxis], others)


class Cooccurrence:
    """The artefact as flat arrays: item i's neighbours are `neighbours[offsets[i]:offsets[i + 1]]`.

    offsets: int64 [R + 1]. neighbours: int32 [P]. cumulative: float64 [P + 1], running sum of the weights from 0.
    items: int32 [P], whose neighbour each is.
    """

    def __init__(self, offsets: np.ndarray, neighbours: np.ndarray, weights: np.ndarray) -> None:
        rows = len(offsets) - 1
        self.offsets, self.neighbours = offsets.astype(np.int64), neighbours.astype(np.int32)
        self.cumulative = np.concatenate(([0.0], np.cumsum(weights.astype(np.float64))))
        self.items = np.repeat(np.arange(rows, dtype=np.int32), np.diff(offsets))

    @classmethod
    def from_table(cls, table: pa.Table, rows: int) -> "Cooccurrence":
        """From columns item, neighbours, weights; items without a row have no neighbours."""
        table = table.sort_by("item").combine_chunks()
        lists = table["neighbours"].combine_chunks()
        lengths = np.zeros(rows + 1, dtype=np.int64)
        lengths[table["item"].to_numpy() + 1] = lists.value_lengths().to_numpy(zero_copy_only=False)
        weights = table["weights"].combine_chunks().flatten().to_numpy()
        return cls(np.cumsum(lengths), lists.flatten().to_numpy(), weights)
