"""What an SSL task is: it declares the artefacts it needs, draws items, and gives a scalar loss of their vectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.config import FeatureLevelConfig, ItemPairsConfig, TaskConfig, TowerConfig
from pipeline.storage import Location
from ssl_tasks.contrastive import products_with_following
from towers import replicas
from towers.keras import keras, tf
from towers.randomness import uniform

if TYPE_CHECKING:
    from pipeline.catalogue import FieldTable
    from towers.two_tower import TwoTower


@dataclass(frozen=True)
class Corpus:
    """What tasks may read.

    rows: R, items plus the unknown one. items: all fields of theirs, whichever of them the towers read. artifacts: maps
    a job to its folder.
    """

    rows: int
    items: "FieldTable"
    artifacts: dict[str, Location]


class Draw(NamedTuple):
    """What a task asks of a step.

    embeddings: each float [n, W], of items that the item tower is to encode. loss: a function of their vectors, each
    float [n, D], that gives a float scalar.
    """

    embeddings: Sequence[tf.Tensor]
    loss: Callable[..., tf.Tensor]


class Task(ABC):
    """Base of every task. One instance serves one training run.

    On several devices all replicas draw the same items, each takes its share of them as anchors, and the items that an
    anchor is compared with are those of all (towers/replicas.py).

    Class attributes: `name`, the key under `tasks` in the config; `needs`, the Beam jobs whose artefacts it reads;
    `masks_fields`, whether it needs a learned default embedding per item field.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    masks_fields: ClassVar[bool] = False

    def __init__(self, config: TaskConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus

    @classmethod
    def jobs(cls, config: TaskConfig) -> tuple[str, ...]:
        """The Beam jobs whose artefacts the task reads under these settings: `needs`, or fewer."""
        return cls.needs

    @property
    def weight(self) -> float:
        return self.config.weight

    def projector(self, tower: TowerConfig) -> keras.layers.Layer | None:
        """A layer used by this task in training only, never exported; None when it needs none."""
        return None

    @abstractmethod
    def draw(self, model: "TwoTower") -> Draw:
        """Items of the task's own drawing, and what its loss on them is; of several replicas each gives its portion."""

    def draw_items(self) -> tf.Tensor:
        """`batch_size` item indices, uniform over the corpus and never from the click distribution, int32 [n]."""
        return uniform((self.config.batch_size,), 1, self.corpus.rows, tf.int32)

    def draw_values(self, width: int) -> tf.Tensor:
        """Draws in [0, 1) for this replica's share of those items, float32 [n, width]."""
        return replicas.share(uniform((self.config.batch_size, width)))


def following(count: int, negatives: int) -> tf.Tensor:
    """For each of `count` anchors the positions of the next `negatives` ones, cyclic: int32 [count, negatives].

    Anchors are drawn independently, so the next ones are a uniform sample of the corpus.
    """
    steps = min(negatives, count - 1)
    return (tf.range(count)[:, tf.newaxis] + tf.range(1, steps + 1)) % count


def products_with_negatives(
    anchors: tf.Tensor, candidates: tf.Tensor, config: FeatureLevelConfig | ItemPairsConfig
) -> tf.Tensor:
    """The products of anchors with their negatives, the candidates that `following` names: float [n, m].

    anchors, candidates: float [n, D], this replica's share; the candidates of all replicas are the negatives.
    """
    count = min(config.negatives, config.batch_size - 1)
    return products_with_following(anchors, replicas.gathered(candidates), count, replicas.first_row(candidates))
