"""The evaluation stage end to end on hand-made artefacts, with a model whose scores are known."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sequence_fixtures import TIME_SPLIT, Log, sequences
from table_fixtures import make_tables

from pipeline import evaluate as stage
from pipeline.artifacts import Spec, create
from pipeline.catalogue import EncodedField, FieldTable
from pipeline.config import Config
from pipeline.errors import ArtifactError, InputError
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import UNRANKED
from pipeline.ranking import evaluate
from pipeline.sequences import SCHEMA
from pipeline.statistics import Run
from pipeline.tables import FieldSchema, Schema
from pipeline.vocabulary import Vocabulary

ITEMS = 6
LOG: Log = [
    [(1, 1), (2, 2), (20, 0), (40, 3), (61, 5), (62, 2)],
    [(3, 2), (4, 2), (35, 5), (70, 3)],
    [(5, 1), (6, 4), (31, 2), (66, 6)],
    [(70, 1)],
]


class KnownModel:
    """Items are one-hot; a user is the sum of the history items' numbers and of the user's field, turned round."""

    def __init__(self, length: int = 2) -> None:
        self.length = length

    def user_input_spec(self) -> dict[str, tuple[int, ...]]:
        return {"history": (self.length,), "age": ()}

    def item_vectors(self, indices: np.ndarray) -> np.ndarray:
        return np.eye(ITEMS + 1, dtype=np.float32)[indices]

    def user_vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        assert set(inputs) == {"history", "age"}
        turn = inputs["history"] @ np.arange(1, self.length + 1) + inputs["age"]
        return ((np.arange(ITEMS + 1) + turn[:, np.newaxis]) % (ITEMS + 1)).astype(np.float32)


AGES = FieldTable((EncodedField("age", "categorical", 9),), {"age": np.array([0, 3, 1, 4, 2], np.int32)})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """All artefacts that the stage reads; the model they name is the known one."""
    settings = {
        "workdir": str(tmp_path),
        "name": "known",
        "split": TIME_SPLIT.model_dump(),
        "evaluate": {"at": [1, 3], "recent_days": [1], "bootstrap": 20},
        "train": {"monitor": 2},
        "tower": {"history_length": 2},
    }
    config = Config.model_validate(settings)
    users, items = [f"u{i}" for i in range(1, 5)], [f"i{i}" for i in range(1, ITEMS + 1)]
    fields = {"user_id": users, "age": ["c", "a", "d", "b"]}
    schema = Schema(user_fields=(FieldSchema("age", "categorical"),))
    events = pa.table({"user_id": ["u1"], "item_id": ["i1"], "timestamp": [1]})
    make_tables(config.tables_dir, {"log": events}, schema, pa.table({"item_id": items}), pa.table(fields))
    with create(config.prepared_dir("vocabularies"), Spec("vocabularies", 1)) as draft:
        for name, values in (("items", items), ("users", users), ("user.age", ["a", "b", "c", "d"])):
            Vocabulary.from_counts(values, [1] * len(values)).write(draft.dir / f"{name}.parquet")
        (draft.dir / "numeric.json").write_text("{}")
    write_sequences(config, LOG)
    with create(config.run_dir / "model", Spec("model", 1)) as draft:
        (draft.dir / "weights").write_text("known")
    train = ModuleType("pipeline.train")
    train.load_model = lambda config: KnownModel()
    monkeypatch.setitem(sys.modules, "pipeline.train", train)
    return config


def write_sequences(config: Config, log: Log) -> None:
    events = sequences(log, config.split)
    rows = [slice(a, b) for a, b in pairwise(events.offsets)]
    table = pa.table(
        {
            "user": events.users,
            "items": [events.items[r] for r in rows],
            "timestamps": [events.timestamps[r] for r in rows],
            "train_end": events.train_end,
            "validation_end": events.validation_end,
        },
        schema=SCHEMA,
    )
    with create(config.prepared_dir("user_sequences"), Spec("user_sequences", 1)) as draft:
        pq.write_table(table, draft.dir / "part-00000.parquet")


def known_order(user: int, built: EvaluationSet) -> list[int]:
    """What the known model must list for row `user`: items by score, then by popularity, seen ones left out."""
    history = built.history_items[built.history_offsets[user] : built.history_offsets[user + 1]].tolist()
    last = [0, 0, *(i for i in history if i)][-2:]
    turn = last[0] + 2 * last[1] + AGES.columns["age"][built.users[user]]
    allowed = [i for i in built.candidates.tolist() if i not in history]
    return sorted(allowed, key=lambda i: (-((i + turn) % (ITEMS + 1)), built.candidates.tolist().index(i)))


@pytest.mark.parametrize("phase", ["validation", "test"])
@pytest.mark.parametrize("candidates", ["trained", "catalogue"])
def test_model_score_ranks_by_the_dot_product_of_recent_history_and_user_fields(phase: str, candidates: str) -> None:
    built = EvaluationSet.build(sequences(LOG, TIME_SPLIT), ITEMS + 1, TIME_SPLIT, phase, candidates)
    found = evaluate(built, stage.model_score(KnownModel(), built, AGES), [3]).ranks
    expected = []
    for user, item in zip(built.target_rows, built.target_items, strict=True):
        listed = known_order(user, built)
        expected.append(listed.index(item) + 1 if item in listed else UNRANKED)
    assert found.tolist() == expected


def test_model_score_of_a_batch_equals_that_of_one_user() -> None:
    built = EvaluationSet.build(sequences(LOG, TIME_SPLIT), ITEMS + 1, TIME_SPLIT)
    score = stage.model_score(KnownModel(), built, AGES)
    assert np.concatenate([score(u, u + 1) for u in range(len(built))]).tolist() == score(0, len(built)).tolist()


def test_run_writes_the_ranks_of_every_pair_and_scorer(config: Config) -> None:
    artifact = stage.run(config)
    built = EvaluationSet.build(sequences(LOG, TIME_SPLIT), ITEMS + 1, TIME_SPLIT)
    rows = pq.read_table(artifact.file("per_user.parquet")).to_pylist()
    assert list(dict.fromkeys(row["scorer"] for row in rows)) == [
        "model",
        "popularity",
        "recent_popularity",
        "ease",
        "ease_last",
    ]
    own = [row for row in rows if row["scorer"] == "model"]
    assert [(row["user"], row["target"]) for row in own] == [(1, 5), (1, 2), (2, 3), (3, 6)]
    expected = [known_order(u, built) for u in built.target_rows]
    places = [o.index(row["target"]) + 1 if row["target"] in o else None for o, row in zip(expected, own, strict=True)]
    assert [row["rank"] for row in own] == places
    assert [row["gap"] for row in own] == [21, 22, 35, 35]
    assert artifact.counts == {"users": 3, "pairs": 4}


def test_run_reports_each_part_beside_the_baselines(config: Config) -> None:
    artifact = stage.run(config)
    figures = json.loads(artifact.file("report.json").read_text())
    assert list(figures["parts"]) == ["trained", "catalogue", "new_items", "cold_users"]
    assert figures["labels"]["model"] == "known"
    assert "| known |" in artifact.file("report.md").read_text()
    assert figures["at"] == [1, 2, 3]


def test_run_reads_back_for_comparison(config: Config) -> None:
    path = stage.run(config).path
    model, other = Run.read(path), Run.read(path, "popularity")
    assert model.users.tolist() == other.users.tolist() == [1, 1, 2, 3]
    assert model.ranks[1] == UNRANKED  # seen already
    figures = json.loads((stage.run(config).file("report.json")).read_text())
    for n, share in figures["parts"]["trained"]["scorers"]["model"]["coverage"].items():
        assert model.coverage[int(n)] == share
    with pytest.raises(InputError, match="no scorer 'sasrec'"):
        Run.read(path, "sasrec")


def test_run_is_skipped_until_an_input_changes(config: Config) -> None:
    first = stage.run(config).manifest["run"]
    assert stage.run(config).manifest["run"] == first
    write_sequences(config, [*LOG[:3], [(1, 1), (61, 2)]])
    assert stage.run(config).manifest["run"] != first


def test_validation_lies_beside_the_test(config: Config) -> None:
    test, validation = stage.run(config), stage.run(config, "validation")
    assert (test.path.name, validation.path.name) == ("evaluation", "evaluation_validation")
    assert json.loads(validation.file("report.json").read_text())["phase"] == "validation"


def test_run_without_a_model_says_so(config: Config) -> None:
    with pytest.raises(ArtifactError, match="no model artefact"):
        stage.run(config.model_copy(update={"name": "untrained"}))
