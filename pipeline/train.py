"""The training stage: artefacts -> the model with the best validation HIT."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import FieldTable, Vocabularies, item_table, user_table
from pipeline.config import Config, TasksConfig
from pipeline.dataset import TrainDataset
from pipeline.errors import ArtifactError, TwoTowerError
from pipeline.evaluate import model_score
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import hits
from pipeline.progress import bar, say
from pipeline.ranking import evaluate
from pipeline.sequences import UserSequences
from pipeline.tables import VERSION as TABLES_VERSION
from pipeline.tables import Tables
from ssl_tasks.registry import TASKS, make_tasks
from ssl_tasks.task import Corpus
from towers.keras import keras, tf
from towers.optimizers import make_optimizer
from towers.two_tower import TwoTower

KIND, VERSION = "model", 1
WEIGHTS, METRICS, CONFIG = "weights", "metrics.jsonl", "config.yaml"


class TrainingError(TwoTowerError):
    """Training cannot go on, for instance because the loss is no longer finite."""


@dataclass(frozen=True)
class Inputs:
    """What the model is built and trained from. counts: int64 [R], train events per item."""

    sequences: UserSequences
    items: FieldTable
    users: FieldTable
    counts: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.counts)


def train(config: Config) -> Artifact:
    """Train the towers of `config` and keep the weights with the best validation HIT; skipped when nothing changed.

    Writes the weights, metrics.jsonl (one line an epoch) and the resolved config to `<run>/model`. Without a
    validation part (`split.refit`, or `none`) all of `train.max_epochs` are run and the last weights kept.
    """
    spec, path = _spec(config), config.run_dir / "model"
    if done := current(path, spec):
        return done
    keras.utils.set_random_seed(config.train.seed)
    inputs = read_inputs(config)
    corpus = Corpus(inputs.rows, inputs.items, {job: config.prepared_dir(job) for job in _needed_jobs(config)})
    model = TwoTower(config, inputs.items, inputs.users, inputs.counts, make_tasks(config.tasks, corpus))
    build(model)
    with create(path, spec) as draft:
        (draft.dir / CONFIG).write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")
        draft.counts.update(_fit(model, config, inputs, draft.dir))
    return open_artifact(path, KIND, VERSION)


def open_model(config: Config) -> Artifact:
    """The model artefact of `config`.

    Raises ArtifactError when it was trained on other artefacts, or with another tower: other vocabularies of the same
    sizes would fit the weights, and answer nonsense.
    """
    artifact = open_artifact(config.run_dir / "model", KIND, VERSION)
    trained_on = artifact.manifest["spec"]["inputs"]
    other = [kind for kind, fingerprint in _fingerprints(config, trained_on).items() if fingerprint != trained_on[kind]]
    if artifact.config["tower"] != json.loads(config.tower.model_dump_json()):
        other.append("`tower` settings")
    if other:
        raise ArtifactError(
            f"the model at {artifact.path} was trained with other {', '.join(other)}. Cure: train again"
        )
    return artifact


def load_model(config: Config) -> TwoTower:
    """The trained model of `config`, without its SSL tasks.

    Raises ArtifactError where `open_model` does, and when the weights cannot be read.
    """
    artifact = open_model(config)
    inputs = read_inputs(config)
    model = TwoTower(config, inputs.items, inputs.users, inputs.counts)
    build(model)
    weights = artifact.parts(f"{WEIGHTS}.")[0].with_name(WEIGHTS)
    try:
        status = tf.train.Checkpoint(model=model).read(str(weights))
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"the weights at {artifact.path} cannot be read ({error}). Cure: delete that folder and train again"
        ) from None
    return model


def read_inputs(config: Config) -> Inputs:
    """Read the artefacts of `twotower prepare`, which hold at least one train event."""
    tables = Tables.read(config.tables_dir)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    events = UserSequences.read(config.prepared_dir("user_sequences"))
    counts = np.bincount(events.items[events.train_rows()], minlength=vocabularies.items.size)
    counts[0] = 0
    return Inputs(events, item_table(tables, vocabularies), user_table(tables, vocabularies), counts)


def build(model: TwoTower) -> None:
    """Create all variables by encoding one unknown user and item."""
    model(tf.zeros((1,), tf.int32))
    model.user_tower({name: tf.zeros((1, *shape), tf.int32) for name, shape in model.user_input_spec().items()})


def _needed_jobs(config: Config) -> set[str]:
    sections = {name: getattr(config.tasks, name) for name in TASKS}
    return {job for name, task in TASKS.items() if sections[name].weight > 0 for job in task.jobs(sections[name])}


def _spec(config: Config) -> Spec:
    """The settings that the model depends on, and the artefacts it reads."""
    inputs = _fingerprints(config, ["tables", "vocabularies", "user_sequences", *sorted(_needed_jobs(config))])
    settings = config.model_dump(include={"split", "tower", "loss", "train"})
    return Spec(KIND, VERSION, inputs, settings | {"tasks": _switched_on(config.tasks)})


def _fingerprints(config: Config, kinds: Iterable[str]) -> dict[str, str]:
    """The fingerprints of artefacts as they are now."""
    folders = {kind: config.tables_dir if kind == "tables" else config.prepared_dir(kind) for kind in kinds}
    versions = {"tables": TABLES_VERSION, "title_neighbours": 2}
    return {kind: open_artifact(folder, kind, versions.get(kind, 1)).fingerprint for kind, folder in folders.items()}


def _switched_on(tasks: TasksConfig) -> dict[str, object]:
    return {name: section for name, section in tasks.model_dump().items() if section["weight"] > 0}


def _fit(model: TwoTower, config: Config, inputs: Inputs, directory: Path) -> dict[str, float]:
    """Run the epochs; leaves the best weights in the directory. Returns the counts of the manifest."""
    dataset = TrainDataset(config, inputs.sequences, inputs.users, inputs.rows)
    model.compile(optimizer=make_optimizer(config.train, len(dataset) * config.train.max_epochs))
    validate = _validation(model, config, inputs)
    checkpoint, best, best_epoch = tf.train.Checkpoint(model=model), -1.0, 0
    step = tf.function(model.train_step, reduce_retracing=True)
    for epoch in range(1, config.train.max_epochs + 1):
        record = {"epoch": epoch, **_run_epoch(model, step, dataset, epoch)}
        hit = validate() if validate else float(epoch)  # without a validation part, later is better
        if validate:
            record["validation"] = {f"HIT@{config.train.monitor}": round(hit, 5)}
            told = f"epoch {epoch}: loss {record['loss']:.4f}, validation HIT@{config.train.monitor} {hit:.4f}"
            say(told)
        with open(directory / METRICS, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        if hit > best:
            best, best_epoch = hit, epoch
            checkpoint.write(str(directory / WEIGHTS))
        if epoch - best_epoch >= config.train.patience:
            break
    counts: dict[str, float] = {"examples": len(dataset.events.items), "epochs": epoch, "best_epoch": best_epoch}
    return counts | ({f"validation_hit_at_{config.train.monitor}": round(best, 5)} if validate else {})


def _run_epoch(model: TwoTower, step: Callable, dataset: TrainDataset, epoch: int) -> dict[str, object]:
    """One pass over the train events. Raises TrainingError at a loss that is not finite."""
    for mean in model.means.values():
        mean.reset_state()
    started, examples, total = time.monotonic(), len(dataset.events.items), 0.0
    with bar(total=examples, desc=f"epoch {epoch}", unit=" examples", unit_scale=True, delay=1) as progress:
        for number, batch in enumerate(dataset.epoch(epoch), start=1):
            loss = float(step(batch)["loss"])
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} in epoch {epoch}, step {number}. Cure: a smaller `train.learning_rate`, "
                    "or a larger temperature"
                )
            total += loss
            progress.update(len(batch["positive"]))
            progress.set_postfix(loss=f"{total / number:.4f}")
    losses = {name: round(float(mean.result()), 5) for name, mean in model.means.items()}
    speed = examples / (time.monotonic() - started)
    return {"loss": round(total / number, 5), "losses": losses, "examples_per_second": round(speed, 1)}


def _validation(model: TwoTower, config: Config, inputs: Inputs) -> Callable[[], float] | None:
    """A function that gives the HIT@monitor of the model as it stands, or None without a validation part."""
    if config.split.kind == "none" or config.split.refit:
        return None
    evaluation_set = EvaluationSet.build(inputs.sequences, inputs.rows, config.split, "validation")
    if not len(evaluation_set):
        return None

    def validate() -> float:
        score = model_score(model, evaluation_set, inputs.users)
        ranking = evaluate(evaluation_set, score, [config.train.monitor], "validating")
        return float(hits(ranking.ranks, config.train.monitor).mean())

    return validate
