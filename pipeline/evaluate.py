"""The evaluation stage: the trained model and every baseline, exactly, over the whole corpus -> a report."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import baselines, report, sequences
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import FieldTable, Vocabularies, user_table
from pipeline.config import Config
from pipeline.evaluation_set import EvaluationSet, Phase, evaluated_parts
from pipeline.metrics import UNRANKED
from pipeline.ranking import Ranking, Score, evaluate
from pipeline.sequences import UserSequences
from pipeline.tables import Tables

if TYPE_CHECKING:
    from towers.two_tower import TwoTower

KIND, VERSION = "evaluation", 2
PER_USER = pa.schema(
    [
        ("scorer", pa.dictionary(pa.int8(), pa.string())),
        ("user", pa.int32()),
        ("target", pa.int32()),
        ("rank", pa.int32()),
        ("gap", pa.int64()),
        ("decile", pa.int8()),
    ]
)
"""One row per scorer and pair of the part `trained`. user, target: vocabulary indices. rank: 1 = top, null when the
list cannot hold the target. gap: seconds since the user's last known event. decile: of popularity, -1 = unseen."""


def run(config: Config, phase: Phase = "test") -> Artifact:
    """Evaluate the trained model of `config` beside the baselines; skipped when nothing has changed since.

    Writes report.json, report.md, per_user.parquet (PER_USER) and the plots to `<run>/evaluation`, or to
    `<run>/evaluation_validation` for the phase `validation`: choose settings there, never on the test.
    """
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    prepared = open_artifact(config.prepared_dir("user_sequences"), sequences.KIND, sequences.VERSION)
    model_artifact = open_artifact(config.run_dir / "model", "model", 1)
    inputs = {"vocabularies": vocabularies.artifact.fingerprint, "user_sequences": prepared.fingerprint}
    settings = {
        "phase": phase,
        "split": config.split.model_dump(),
        "monitor": config.train.monitor,
        "evaluate": config.evaluate.model_dump(),
    }
    spec = Spec(KIND, VERSION, {**inputs, "model": model_artifact.fingerprint}, settings)
    path = config.run_dir / ("evaluation" if phase == "test" else "evaluation_validation")
    if done := current(path, spec):
        return done
    events = UserSequences.from_artifact(prepared)
    parts = evaluated_parts(events, vocabularies.items.size, config.split, phase)
    others = baselines.run(config, events, parts, inputs, phase)
    ranked = _rank_model(config, vocabularies, parts)
    rankings = {part: {"model": ranked[part], **others.rankings[part]} for part in parts}
    with create(path, spec) as draft:
        labels = {"model": config.name, **others.labels}
        report.write(draft.dir, report.build(config, phase, labels, parts, rankings), rankings)
        write_per_user(draft.dir / "per_user.parquet", parts["trained"], rankings["trained"])
        draft.counts.update(users=len(parts["trained"]), pairs=len(parts["trained"].target_items))
    return open_artifact(path, KIND, VERSION)


def _rank_model(config: Config, vocabularies: Vocabularies, parts: dict[str, EvaluationSet]) -> dict[str, Ranking]:
    # Here, so that a stage that is skipped does not wait for TensorFlow.
    from pipeline.train import load_model

    model = load_model(config)
    users = user_table(Tables.read(config.tables_dir), vocabularies)
    at = [*config.evaluate.at, config.train.monitor]
    return {
        part: evaluate(evaluation_set, model_score(model, evaluation_set, users), at, f"evaluating {config.name}")
        for part, evaluation_set in parts.items()
    }


def model_score(model: "TwoTower", evaluation_set: EvaluationSet, users: FieldTable) -> Score:
    """The dot product of both towers. Each user's input is the most recent part of the history."""
    from pipeline.dataset import user_inputs

    items = model.item_vectors(evaluation_set.candidates).T  # (D, C)
    spec = model.user_input_spec()

    def score(start: int, stop: int) -> np.ndarray:
        offsets = evaluation_set.history_offsets[start : stop + 1]
        history = offsets - offsets[0], evaluation_set.history_items[offsets[0] : offsets[-1]]
        inputs = user_inputs(history, evaluation_set.users[start:stop], users, spec["history"][0])
        return model.user_vectors({name: inputs[name] for name in spec}) @ items  # (b, D) @ (D, C) -> (b, C)

    return score


def write_per_user(path: Path, evaluation_set: EvaluationSet, rankings: dict[str, Ranking]) -> None:
    """Write the rank of every pair by every scorer; see PER_USER."""
    pairs = len(evaluation_set.target_items)
    with pq.ParquetWriter(path, PER_USER, compression="zstd") as writer:
        for name, ranking in rankings.items():
            columns = {
                "scorer": pa.DictionaryArray.from_arrays(np.zeros(pairs, np.int8), pa.array([name])),
                "user": evaluation_set.users[evaluation_set.target_rows],
                "target": evaluation_set.target_items,
                "rank": pa.array(ranking.ranks, mask=ranking.ranks == UNRANKED),
                "gap": evaluation_set.gaps,
                "decile": evaluation_set.deciles,
            }
            writer.write_table(pa.table(columns, schema=PER_USER))
