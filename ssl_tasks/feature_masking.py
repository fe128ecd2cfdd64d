"""Correlated feature masking and its variants (Yao et al. 2021, section 3.2)."""

import json
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts import open_artifact
from pipeline.config import FeatureMaskingConfig
from pipeline.errors import ArtifactError
from ssl_tasks.contrastive import info_nce
from ssl_tasks.task import Corpus, Draw, Task
from towers import replicas
from towers.embeddings import FieldEmbeddings
from towers.keras import tf
from towers.randomness import permutation, uniform

if TYPE_CHECKING:
    from towers.two_tower import TwoTower


class FeatureMasking(Task):
    """Two views of an item, each without some of its fields, must be closer than views of different items.

    `correlated` (CFM): a seed field is drawn uniformly per batch and masked with its floor(F / 2) most correlated
    fields in view 1, the complement in view 2. `random` (RFM): a random half and its complement.
    `random_no_complement`: two independent random halves. `none`: no masking. Then each value of a multi-valued
    field is dropped with `dropout_rate`, independently per view.
    """

    name = "feature_masking"
    needs = ("mutual_information",)
    masks_fields = True
    config: FeatureMaskingConfig

    def __init__(self, config: FeatureMaskingConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        artifact = open_artifact(corpus.artifacts["mutual_information"], "mutual_information", 1)
        content = json.loads(artifact.file("mutual_information.json").read_text(encoding="utf-8"))
        self.names, self.matrix = content["fields"], np.asarray(content["matrix"], dtype=np.float32)

    def draw(self, model: "TwoTower") -> Draw:
        values = model.item_table(replicas.share(self.draw_items()))
        embeddings = model.item_embeddings
        views = [
            embeddings(values, mask=mask, keep=self._keep(embeddings, values))
            for mask in self.masks([field.name for field in embeddings.fields])
        ]
        return Draw(views, self._loss)

    def _loss(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        loss = info_nce(first, replicas.gathered(second), self.config.temperature, replicas.first_row(second))
        return replicas.portion(loss, tf.shape(first)[0])

    def masks(self, fields: list[str]) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the masked fields of both views: two bool [F]."""
        count, kind = len(fields), self.config.masking
        if kind == "none":
            return tf.zeros(count, tf.bool), tf.zeros(count, tf.bool)
        if kind == "correlated":
            first = tf.gather(tf.constant(correlated_masks(self._information(fields))), _below(count))
        else:
            first = _random_half(count)
        second = _random_half(count) if kind == "random_no_complement" else tf.logical_not(first)
        return first, second

    def _information(self, fields: list[str]) -> np.ndarray:
        missing = [field for field in fields if field not in self.names]
        if missing:
            raise ArtifactError(
                f"the mutual_information artefact lacks the fields {missing}. Cure: run `twotower prepare` again"
            )
        rows = [self.names.index(field) for field in fields]
        return self.matrix[np.ix_(rows, rows)]

    def _keep(self, embeddings: FieldEmbeddings, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rate = self.config.dropout_rate
        return {
            field.name: self.draw_values(values[field.name].shape[1]) >= rate
            for field in embeddings.fields
            if field.kind == "multi"
        }


def correlated_masks(information: np.ndarray) -> np.ndarray:
    """Mutual information float [F, F] -> bool [F, F]; row s masks seed s and its floor(F / 2) most correlated fields.

    Equal information is ordered by field position. With F = 2 the complement would be empty, so one field fewer
    is taken wherever all F would be masked.
    """
    count = len(information)
    most = min(count // 2, max(count - 2, 0))
    masks = np.eye(count, dtype=bool)
    for seed in range(count):
        others = [field for field in np.argsort(-information[seed], kind="stable") if field != seed]
        masks[seed, others[:most]] = True
    return masks


def _below(count: int) -> tf.Tensor:
    return uniform((), 0, count, tf.int32)


def _random_half(count: int) -> tf.Tensor:
    """bool [F] with ceil(F / 2) fields True at random, never all of more than one."""
    order = permutation(count)
    return order < max(count // 2, 1)
