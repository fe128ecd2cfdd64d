"""The training stage: artefacts -> the model with the best validation HIT."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline import local_disk, train_checks
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import FieldTable, Vocabularies, item_table, user_table
from pipeline.checkpoints import BEST, Checkpoints
from pipeline.cluster import Cluster
from pipeline.config import Config, TasksConfig, TowerConfig
from pipeline.config_loss import LossConfig
from pipeline.dataset import TrainDataset
from pipeline.devices import OneDevice
from pipeline.distribute import check_distribute, cluster_of, find_devices
from pipeline.errors import ArtifactError, TrainingError
from pipeline.fit import EpochWatcher, Fit
from pipeline.hard_negatives import hard_negative_mining
from pipeline.parameter_servers import serve
from pipeline.run_folder import RunFolder
from pipeline.sequences import UserSequences
from pipeline.storage import Location
from pipeline.tables import VERSION as TABLES_VERSION
from pipeline.tables import Tables
from pipeline.train_checks import needed_jobs
from pipeline.validation import Validation
from pipeline.warm_start import find_source, warm_start
from pipeline.watch import watching
from ssl_tasks.registry import make_tasks
from ssl_tasks.task import Corpus
from towers.keras import keras, tf
from towers.optimizers import make_optimizer
from towers.precision import precision
from towers.two_tower import TwoTower

KIND, VERSION = "model", 1
FIRST_DAY = "first day"
"""What a run that names itself in `train.warm_start` has begun with, when it had no model yet."""
HOW_TO_RUN = {"checkpoint_minutes", "unfinished", "distribute", "devices", "shard_bytes"}
"""Settings of `train` that change nothing about the model, but in its last digits."""


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


def train(config: Config, watcher: EpochWatcher | None = None) -> Artifact:
    """Train the towers of `config` and keep the weights with the best validation HIT; skipped when nothing changed.

    Writes the weights (with the optimiser's state), metrics.jsonl (one line an epoch), the resolved config and the
    environment to `<run>/model`. Without a validation part (`split.refit`, or `none`) all of `train.max_epochs` are run
    and the last weights kept. A run that is stopped leaves a checkpoint; `train.unfinished` says what is done with it.
    watcher: see `Fit`.

    Raises TrainingError, TrainingInterruptedError, ArtifactError, ConfigError.
    """
    train_checks.check_settings(config)
    check_distribute(config)
    train_checks.task_artifacts(config)
    if (cluster := cluster_of(config)) and cluster.serves:
        return _served(config, cluster)
    devices = find_devices(config, cluster)
    with devices.scope():
        return _train(config, devices, watcher)


def _served(config: Config, cluster: Cluster) -> Artifact:
    """Do what the chief says. Returns: the model that it has made."""
    serve(cluster)
    try:
        return open_artifact(config.run_dir / "model", KIND, VERSION)
    except ArtifactError:
        raise TrainingError("the chief has stopped without a model. Cure: see what it said last") from None


def _train(config: Config, devices: OneDevice, watcher: EpochWatcher | None) -> Artifact:
    path = config.run_dir / "model"
    source = find_source(config) if config.train.warm_start else None
    spec = model_spec(config, source, devices)
    checkpoints = Checkpoints(config, spec)
    if done := current(path, spec) or _own_heir(path, spec, source):
        if devices.chief:
            checkpoints.discard_finished()
        return done
    devices.check(config)
    train_checks.check_fields(config)
    train_checks.check_artifacts(config)
    if devices.chief:
        _lead(checkpoints, config, devices, source, spec, watcher)
    else:
        _follow(checkpoints, config, devices, source)
    devices.from_chief(lambda: 0.0)  # or a follower would look for the model before the chief has written it
    return open_artifact(path, KIND, VERSION)


def _lead(
    checkpoints: Checkpoints,
    config: Config,
    devices: OneDevice,
    source: Artifact | None,
    spec: Spec,
    watcher: EpochWatcher | None,
) -> None:
    with create(config.run_dir / "model", spec) as draft:  # whose lock keeps a second process off the checkpoint too
        found = checkpoints.begin(config.train.unfinished)
        devices.from_chief(lambda: float(found is not None))
        fit = _start(config, checkpoints, draft.dir, devices)
        fit.watcher = watcher
        fit.folder.keep_vocabularies(draft.dir)
        _take_up(fit, found, source)
        fit.folder.begin()
        with watching(config, fit.model, resumed=found is not None) as fit.watch:
            draft.counts.update(fit.run())
        fit.folder.end(draft.dir)
    checkpoints.discard()


def _follow(checkpoints: Checkpoints, config: Config, devices: OneDevice, source: Artifact | None) -> None:
    """Train as a worker beside the chief, and write nothing."""
    resumed = devices.from_chief(lambda: 0.0)
    with local_disk.scratch() as directory:
        fit = _start(config, checkpoints, directory, devices)
        _take_up(fit, checkpoints.found() if resumed else None, source)
        fit.run()


def _take_up(fit: Fit, found: Artifact | None, source: Artifact | None) -> None:
    """Begin where an earlier run has ended, if there is one."""
    if found:
        fit.progress = fit.checkpoints.restore(found, fit.model, fit.directory)
    elif source:
        warm_start(fit.model, fit.config, source)


def open_model(config: Config) -> Artifact:
    """The model artefact of `config`.

    Raises ArtifactError when it was trained on other artefacts, or with another tower: other vocabularies of the same
    sizes would fit the weights, and answer nonsense.
    """
    artifact = open_artifact(config.run_dir / "model", KIND, VERSION)
    trained_on = {name: made for name, made in artifact.manifest["spec"]["inputs"].items() if name != "warm_start"}
    other = [kind for kind, fingerprint in _fingerprints(config, trained_on).items() if fingerprint != trained_on[kind]]
    if TowerConfig(**artifact.config["tower"]) != config.tower:  # a setting younger than the model has its default
        other.append("`tower` settings")
    if other:
        raise ArtifactError(
            f"the model at {artifact.path} was trained with other {', '.join(other)}. Cure: train again"
        )
    return artifact


def load_model(config: Config) -> TwoTower:
    """The trained model of `config`, without its SSL tasks and what its negatives had to remember.

    Raises ArtifactError where `open_model` does, and when the weights cannot be read.
    """
    artifact = open_model(config)
    inputs = read_inputs(config)
    plain = config.model_copy(update={"loss": LossConfig()})
    model = TwoTower(plain, inputs.items, inputs.users, inputs.counts)
    build(model)
    weights = artifact.parts(f"{BEST}.")[0].with_name(BEST)
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
    """Create all variables by encoding one unknown user and item, and by the tasks' losses."""
    model(tf.zeros((1,), tf.int32))
    model.user_tower({name: tf.zeros((1, *shape), tf.int32) for name, shape in model.user_input_spec().items()})
    model.task_losses(training=False)


def _start(config: Config, checkpoints: Checkpoints, directory: Path, devices: OneDevice) -> Fit:
    """A run at its beginning: all variables made and initialised."""
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.train.seed)
    inputs = read_inputs(config)
    corpus = Corpus(inputs.rows, inputs.items, {job: config.prepared_dir(job) for job in needed_jobs(config)})
    with precision(config.train.precision):
        model = TwoTower(config, inputs.items, inputs.users, inputs.counts, make_tasks(config.tasks, corpus))
    build(model)
    dataset = TrainDataset(config, inputs.sequences, inputs.users, inputs.rows, devices.part)
    model.compile(optimizer=make_optimizer(config.train, max(1, len(dataset) * config.train.max_epochs)))
    model.optimizer.build(model.trainable_variables)
    validation = Validation.of(model, config, inputs.sequences, inputs.users, inputs.rows)
    mine = hard_negative_mining(model, dataset)
    return Fit(model, config, dataset, mine, validation, directory, checkpoints, RunFolder(config), devices)


def _own_heir(path: Location, spec: Spec, source: Artifact | None) -> Artifact | None:
    """The model at `path` when the run began with its own model of before, and nothing else has changed since."""
    if source is None or source.path != path:
        return None
    before = source.manifest["spec"]["inputs"].get("warm_start", "")
    return current(path, replace(spec, inputs=spec.inputs | {"warm_start": before}))


def model_spec(config: Config, source: Artifact | None, devices: OneDevice | None = None) -> Spec:
    """The settings that the model depends on, and the artefacts it reads."""
    inputs = _fingerprints(config, ["tables", "vocabularies", "user_sequences", *sorted(needed_jobs(config))])
    settings = config.model_dump(include={"split", "tower", "loss", "train"}, exclude={"train": HOW_TO_RUN})
    if config.train.warm_start:
        inputs["warm_start"] = source.fingerprint if source else FIRST_DAY
    settings |= {"tasks": _switched_on(config.tasks), **(devices.settings() if devices else {})}
    return Spec(KIND, VERSION, inputs, settings)


def _fingerprints(config: Config, kinds: Iterable[str]) -> dict[str, str]:
    """The fingerprints of artefacts as they are now."""
    folders = {kind: config.tables_dir if kind == "tables" else config.prepared_dir(kind) for kind in kinds}
    versions = {"tables": TABLES_VERSION, "title_neighbours": 2}
    return {kind: open_artifact(folder, kind, versions.get(kind, 1)).fingerprint for kind, folder in folders.items()}


def _switched_on(tasks: TasksConfig) -> dict[str, object]:
    return {name: section for name, section in tasks.model_dump().items() if section["weight"] > 0}
