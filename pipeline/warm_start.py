"""Warm start: a new model begins with the rows and layers of an earlier one, whose vocabularies may have been others.

A row belongs to a value (an item id, a genre), not to a number: rows are matched by the strings that the earlier run
kept beside its weights. Values it did not know begin as a mean of those it did; values that are no longer known are
dropped with their rows. Adagrad's accumulators move with their rows; Adam begins with fresh moments, whose memory is
short and whose bias correction counts the steps of one run.
"""

import json
from collections import deque
from dataclasses import dataclass

import numpy as np

from pipeline import storage
from pipeline.artifacts import Artifact, open_artifact
from pipeline.catalogue import Vocabularies, field_file
from pipeline.checkpoints import BEST, STATE
from pipeline.config import Config, TowerConfig
from pipeline.errors import ArtifactError, ConfigError
from pipeline.manifest import MANIFEST
from pipeline.progress import say
from pipeline.run_folder import VOCABULARIES
from pipeline.storage import Location, locate
from pipeline.vocabulary import Vocabulary
from serving.bundle import OLDER as BUNDLES_BEFORE
from serving.bundle import VERSION as BUNDLE
from towers.keras import tf
from towers.two_tower import TwoTower

KNOWN = "model/cold_start/known/.ATTRIBUTES/VARIABLE_VALUE"
"""The name in a checkpoint of `ColdStart.known`."""


def find_source(config: Config) -> Artifact | None:
    """The model or checkpoint that `train.warm_start` names; None on the first day of a run that names itself.

    Raises ArtifactError, ConfigError.
    """
    named = str(config.train.warm_start)
    for path in (config.root / "runs" / named, locate(named)):
        for place in (path / "model", path):
            if MANIFEST in storage.sizes(place):
                return _trained(place, config)
    if named == config.name and config.train.max_epochs:
        say("train.warm_start: this run has no model yet and begins with random weights")
        return None
    runs = [folder.name for folder in storage.subfolders(config.root / "runs", "")]
    if named in runs:
        checkpoint = config.root / "runs" / named / "checkpoint"
        raise ArtifactError(
            f"`train.warm_start`: the run {named!r} has no model. Cure: train it to its end, or name {checkpoint}, "
            "where it has one"
        )
    raise ArtifactError(
        f"`train.warm_start` {named!r} is no run of {config.root} ({runs}), and no folder with a model, a checkpoint "
        "or a bundle. Cure: name one of them"
    )


def _trained(place: Location, config: Config) -> Artifact:
    kind = json.loads(storage.read_text(place / MANIFEST))["spec"]["kind"]
    if kind == "bundle":
        bundle, model = (
            open_artifact(place, kind, BUNDLE, BUNDLES_BEFORE),
            place.parent.parent / "runs" / place.name / "model",
        )
        artifact = open_artifact(model, "model", 1)
        if artifact.fingerprint != bundle.manifest["spec"]["inputs"]["model"]:
            raise ArtifactError(f"the bundle at {place} was made of another model than {model}. Cure: name the run")
        return artifact
    if kind not in ("model", "checkpoint"):
        raise ArtifactError(
            f"`train.warm_start`: {place} is a {kind} artefact. Cure: name a run, a model, a checkpoint, a bundle"
        )
    if place == config.run_dir / "checkpoint":
        raise ConfigError("`train.warm_start` is this run's own checkpoint, which it will replace. Cure: `--resume`")
    return open_artifact(place, kind, 1)


@dataclass(frozen=True)
class Rows:
    """What the rows of an embedding table stand for: row i of now was row matched[i] of then, 0 = it was not known.

    matched: int32 [R]. group: int32 [R], rows of one number are alike; a new row begins as the mean of its group.
    """

    matched: np.ndarray
    group: np.ndarray

    def grown(self, old: np.ndarray) -> np.ndarray:
        """Old rows float [R0, D] -> [R, D]. The unknown row (0) stays what it was."""
        rows, known = old[self.matched], self.matched > 0
        if known.any():
            rows[~known] = self._means(rows, known)[self.group[~known]]
        rows[0] = old[0]
        return rows

    def _means(self, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The mean of the known rows of each group, of all known rows for a group without any: [G, D]."""
        means = np.tile(rows[known].mean(axis=0), (int(self.group.max()) + 1, 1))
        order = np.flatnonzero(known)[np.argsort(self.group[known], kind="stable")]
        groups, starts, counts = np.unique(self.group[order], return_index=True, return_counts=True)
        means[groups] = np.add.reduceat(rows[order], starts, axis=0) / counts[:, np.newaxis]
        return means


def warm_start(model: TwoTower, config: Config, source: Artifact) -> None:
    """Give a model whose optimiser is built the weights of another run.

    Raises ArtifactError when they cannot be read, ConfigError when the towers have other shapes.
    """
    if f"{VOCABULARIES}/items.parquet" not in source.manifest["files"]:
        raise ArtifactError(
            f"{source.path} does not say what its rows stand for: older code wrote it. Cure: train anew"
        )
    _check_layers(config, source)
    source.verify()
    prefix = BEST if source.manifest["spec"]["kind"] == "model" else STATE
    reader = tf.train.load_checkpoint(str(source.parts(f"{prefix}.")[0].with_name(prefix)))
    shapes, keys = reader.get_variable_to_shape_map(), _keys(model)
    rows = _rows(model, config, source)
    slots = dict(_accumulators(model)) if _same_optimizer(config, source) else {}
    for variable in model.trainable_variables:
        key = keys[variable.ref()]
        if key not in shapes:
            continue  # of a task that the earlier run did not have
        moved = rows.get(variable.ref())
        old = reader.get_tensor(key)
        new = old if moved is None else moved.grown(old)
        if new.shape != variable.shape:
            raise ConfigError(
                f"{source.path} has {variable.name} as {list(old.shape)}, here it is {list(variable.shape)}. Cure: the "
                "`tower` settings and fields of that run, or no `train.warm_start`"
            )
        variable.assign(new)
        slot = slots.get(variable.ref())
        if slot is not None:
            slot.assign(_moved_slot(reader.get_tensor(keys[slot.ref()]), slot, moved))
    if model.cold_start:
        recorded = reader.get_tensor(KNOWN) if KNOWN in shapes else None
        model.item_table.replace(model.cold_start.also_known(_known_before(config, source, recorded)))


def _check_layers(config: Config, source: Artifact) -> None:
    """Refuse layers that would fit, or be missing, and mean something else. Raises ConfigError."""
    then, now = TowerConfig(**source.config["tower"]), config.tower
    read = ("kind", "heads", "blocks") if now.kind == "ican" else ("kind",)
    other = [f"`tower.{name}` {getattr(then, name)}" for name in read if getattr(then, name) != getattr(now, name)]
    if other:
        raise ConfigError(
            f"{source.path} was trained with {', '.join(other)}. Cure: the same here, or no `train.warm_start`"
        )


def _known_before(config: Config, source: Artifact, recorded: np.ndarray | None) -> np.ndarray:
    """The items whose rows have learned in an earlier run, though they may have no train event now: bool [R].

    recorded: bool [R0], what that run says itself; None where it had no `tower.id_dropout`.
    """
    then = Vocabulary.read(source.location(f"{VOCABULARIES}/items.parquet"))
    now = Vocabularies.read(config.prepared_dir("vocabularies")).items
    known = np.concatenate(([0], then.counts)) > 0 if recorded is None else recorded
    return np.concatenate(([False], known[then.encode(now.values)]))


def _moved_slot(old: np.ndarray, slot: tf.Variable, rows: Rows | None) -> np.ndarray:
    """An accumulator with its rows; a new row keeps the fresh one it has."""
    if rows is None:
        return old
    return np.where(rows.matched[:, np.newaxis] > 0, old[rows.matched], slot.numpy())


def _rows(model: TwoTower, config: Config, source: Artifact) -> dict[object, Rows]:
    """The rows of every table whose values have names; a numeric field's buckets keep their places."""
    now = Vocabularies.read(config.prepared_dir("vocabularies"))
    found = {}
    for side, layer in (("item", model.item_embeddings), ("user", model.user_tower.user_embeddings)):
        for field in layer.fields:
            if field.kind == "numeric":
                continue
            is_id = side == "item" and field.name == "item_id"
            names = now.items if is_id else (now.item_fields if side == "item" else now.user_fields)[field.name]
            file = "items.parquet" if is_id else field_file(side, field.name)
            before = Vocabulary.read(source.location(f"{VOCABULARIES}/{file}"))
            matched = np.concatenate(([0], before.encode(names.values))).astype(np.int32)
            group = _groups(model, config) if is_id else np.zeros(len(matched), np.int32)
            found[layer.tables[field.name].ref()] = Rows(matched, group)
            if is_id:
                _tell(source, matched, before.size)
    return found


def _groups(model: TwoTower, config: Config) -> np.ndarray:
    """The value of `train.warm_start_field` of every item: int32 [R]."""
    name = config.train.warm_start_field
    return np.zeros(model.item_table.rows, np.int32) if name is None else model.item_table.columns[name].numpy()


def _tell(source: Artifact, matched: np.ndarray, size_before: int) -> None:
    kept = np.count_nonzero(matched)
    say(
        f"warm start from {source.path}: {kept:,} items keep their rows, {len(matched) - 1 - kept:,} are new, "
        f"{size_before - 1 - kept:,} are gone"
    )


def _same_optimizer(config: Config, source: Artifact) -> bool:
    """Whether the slots of both runs have the same order, and are Adagrad's."""
    theirs, ours = source.config, json.loads(config.model_dump_json())
    tasks = {name: section for name, section in ours["tasks"].items() if section["weight"] > 0}
    same = theirs["tower"] == ours["tower"] and theirs["tasks"].keys() == tasks.keys()
    return same and theirs["train"]["optimizer"] == ours["train"]["optimizer"] == "adagrad"


def _accumulators(model: TwoTower) -> list[tuple[object, tf.Variable]]:
    """Each trainable variable with Adagrad's slot of it, which follow `iterations` in the same order."""
    slots = model.optimizer.variables[1:]
    return [(variable.ref(), slot) for variable, slot in zip(model.trainable_variables, slots, strict=False)]


def _keys(model: TwoTower) -> dict[object, str]:
    """The name of every variable in a checkpoint of the model: the first path that leads to it, breadth first."""
    root = tf.train.Checkpoint(model=model)
    view, found, seen = tf.train.TrackableView(root), {}, {id(root)}
    waiting: deque = deque([("", root)])
    while waiting:
        prefix, parent = waiting.popleft()
        for name, child in view.children(parent).items():
            if id(child) in seen:
                continue
            seen.add(id(child))
            path = prefix + name.replace(".", "..").replace("/", ".S")  # as TensorFlow escapes names
            if isinstance(child, tf.Variable):
                found[child.ref()] = f"{path}/.ATTRIBUTES/VARIABLE_VALUE"
            waiting.append((f"{path}/", child))
    return found
