"""The validation part during training: the HIT that chooses the best weights."""

from dataclasses import dataclass

from pipeline.catalogue import FieldTable
from pipeline.config import Config
from pipeline.evaluate import model_score
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import hits
from pipeline.ranking import evaluate
from pipeline.sequences import UserSequences
from towers.two_tower import TwoTower


@dataclass(frozen=True)
class Validation:
    """The users of the validation part, and the model being trained. users: the fields of all users."""

    model: TwoTower
    evaluation_set: EvaluationSet
    users: FieldTable
    monitor: int

    @classmethod
    def of(
        cls, model: TwoTower, config: Config, sequences: UserSequences, users: FieldTable, rows: int
    ) -> "Validation | None":
        """None where the split leaves no validation part."""
        if config.split.kind == "none" or config.split.refit:
            return None
        evaluation_set = EvaluationSet.build(sequences, rows, config.split, "validation")
        return cls(model, evaluation_set, users, config.train.monitor) if len(evaluation_set) else None

    def hit(self) -> float:
        """HIT@monitor of the model as it stands, over all candidates."""
        score = model_score(self.model, self.evaluation_set, self.users)
        ranking = evaluate(self.evaluation_set, score, [self.monitor], "validating")
        return float(hits(ranking.ranks, self.monitor).mean())
