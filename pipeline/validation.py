"""The validation part during training: the HIT that chooses the best weights, and how the vectors are spread."""

from dataclasses import dataclass

import numpy as np

from pipeline.catalogue import FieldTable
from pipeline.config import Config
from pipeline.dataset import user_inputs
from pipeline.errors import ArtifactError, DivergedError
from pipeline.evaluate import model_score
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import hits
from pipeline.progress import say
from pipeline.ranking import evaluate
from pipeline.representation import alignment, uniformity
from pipeline.sequences import UserSequences
from towers.two_tower import TwoTower


@dataclass(frozen=True)
class Validation:
    """The users of the validation part, and the model being trained.

    users: the fields of all users. monitor: N of the HIT. sample: users behind `spread`, at most.
    """

    model: TwoTower
    evaluation_set: EvaluationSet
    users: FieldTable
    monitor: int
    sample: int

    @classmethod
    def of(
        cls, model: TwoTower, config: Config, sequences: UserSequences, users: FieldTable, rows: int
    ) -> "Validation | None":
        """None where the split leaves no validation part."""
        if config.split.kind == "none" or config.split.refit:
            return None
        evaluation_set, at = EvaluationSet.build(sequences, rows, config.split, "validation"), config.train.monitor
        if at >= (ranked := len(evaluation_set.candidates)):
            say(
                f"`train.monitor` is {at}, but only {ranked} items are ranked: no epoch can be better than the first "
                "by that. Cure: a smaller `train.monitor`"
            )
        return cls(model, evaluation_set, users, at, config.watch.sample) if len(evaluation_set) else None

    def hit(self) -> float:
        """HIT@monitor of the model as it stands, over all candidates. Raises DivergedError when a score is NaN."""
        score = model_score(self.model, self.evaluation_set, self.users)
        try:
            ranking = evaluate(self.evaluation_set, score, [self.monitor], "validating")
        except ArtifactError as error:
            raise DivergedError(f"{error}, and `--restart`") from None
        return float(hits(ranking.ranks, self.monitor).mean())

    def spread(self) -> dict[str, float]:
        """Alignment of users with what they did next, uniformity of those users and of those items.

        Of users evenly spaced in the evaluation set, and the first known item of each; empty with fewer than two.
        """
        pairs = self.evaluation_set
        rows, first = np.unique(pairs.target_rows[pairs.target_items > 0], return_index=True)
        chosen = np.linspace(0, len(rows) - 1, min(self.sample, len(rows))).astype(np.int64)
        if len(chosen) < 2:
            return {}
        targets = pairs.target_items[pairs.target_items > 0][first[chosen]]
        users = self._user_vectors(rows[chosen])
        items = self.model.item_vectors(targets)
        return {
            "alignment": alignment(users, items),
            "uniformity_users": uniformity(users),
            "uniformity_items": uniformity(items),
        }

    def _user_vectors(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the evaluation set, int64 [n] -> float32 [n, D]."""
        pairs, spec = self.evaluation_set, self.model.user_input_spec()
        starts, stops = pairs.history_offsets[rows], pairs.history_offsets[rows + 1]
        offsets = np.concatenate(([0], np.cumsum(stops - starts)))
        items = [pairs.history_items[start:stop] for start, stop in zip(starts, stops, strict=True)]
        history = offsets, np.concatenate(items)
        inputs = user_inputs(history, pairs.users[rows], self.users, spec["history"][0])
        return self.model.user_vectors({name: inputs[name] for name in spec})
