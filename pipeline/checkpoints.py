"""Checkpoints: all that a training run needs to go on as if it had never been interrupted.

    <run>/checkpoint/   an artefact (pipeline/artifacts.py): replaced as a whole, the one before it kept
        state.*         the variables of the model, of its optimiser and of its running means
        weights.*       the best weights so far, where an epoch is complete
        vocabularies/   what the rows of the embedding tables stand for
        progress.json   Progress

Random draws need no state: they follow from the seed and the position (towers/randomness.py, pipeline/dataset.py).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.artifacts import Artifact, Spec, code_version, create, open_artifact
from pipeline.config import Config, TrainConfig
from pipeline.differences import differing
from pipeline.errors import ArtifactError, StorageError, TrainingError
from pipeline.manifest import MANIFEST
from pipeline.progress import say
from towers.keras import tf

if TYPE_CHECKING:
    from towers.two_tower import TwoTower

KIND, VERSION = "checkpoint", 1
STATE, BEST, PROGRESS = "state", "weights", "progress.json"


@dataclass
class Progress:
    """How far a run is.

    epoch: the one under way, from 1. step: how many of its steps are done. loss_sum: of their losses.
    best, best_epoch: the best validation HIT so far, and when. records: what metrics.jsonl says of complete epochs.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def finished(self, config: TrainConfig) -> bool:
        """Whether all epochs are run, or `patience` of them have passed without a better HIT."""
        complete = self.epoch - 1
        return complete >= config.max_epochs or (complete > 0 and complete - self.best_epoch >= config.patience)

    def complete(self, record: dict[str, Any], hit: float) -> bool:
        """End the epoch; whether it is the best one."""
        self.records.append(record)
        better = hit > self.best
        if better:
            self.best, self.best_epoch = hit, self.epoch
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        return better

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


class Checkpoints:
    """The checkpoint of one run. `model_spec` is that of the model being trained: a checkpoint fits no other."""

    def __init__(self, config: Config, model_spec: Spec) -> None:
        self.path = config.run_dir / KIND
        self.spec = Spec(KIND, VERSION, model_spec.inputs, model_spec.config)

    def begin(self, unfinished: str) -> Artifact | None:
        """The checkpoint to go on from, or None to begin at the beginning; see `train.unfinished`.

        Raises TrainingError when the user has to decide, ArtifactError when the checkpoint is damaged.
        """
        if storage.sizes(self.path).get(MANIFEST) is None:
            if unfinished == "resume":
                say("there is no checkpoint to resume from: this run begins at the beginning")
            return None
        if unfinished == "restart":
            self.discard()
            return None
        found = self.found()
        other = self._differences(found)
        if not other and unfinished in ("resume", "auto"):
            self._tell(found)
            return found
        if unfinished == "auto":
            say(f"an unfinished run of other {other} is dropped: {self.path}")
            self.discard()
            return None
        raise TrainingError(self._refusal(found, other, unfinished))

    def save(self, model: "TwoTower", progress: Progress, directory: Path) -> bool:
        """Replace the checkpoint. directory: of the model being written, which is kept too.

        Returns: whether it is written; a store that cannot be reached is told, and may answer the next time.
        Raises TrainingError when there is no room for it; the one before stays.
        """
        try:
            before = self._replaced()
            with self._room_for(f"the checkpoint of {progress}"), create(self.path, self.spec) as draft:
                tf.train.Checkpoint(model=model).write(str(draft.dir / STATE))
                shutil.copytree(directory, draft.dir, dirs_exist_ok=True)
                (draft.dir / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
                draft.counts.update(epoch=progress.epoch, step=progress.step)
            if before is not None:
                storage.remove(self.path / before)
        except StorageError as error:
            say(f"no checkpoint at {progress}: {error}")
            return False
        return True

    def save_best(self, model: "TwoTower", directory: Path) -> None:
        """Keep the weights as the best so far in a folder. Raises TrainingError when there is no room for them."""
        with self._room_for("the best weights"):
            tf.train.Checkpoint(model=model).write(str(directory / BEST))

    @contextmanager
    def _room_for(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise TrainingError(
                f"{what} cannot be written for {self.path.parent} ({_reason(error)}). The last checkpoint is intact. "
                "Cure: make room on that disk, then `twotower train --resume`"
            ) from None

    def restore(self, found: Artifact, model: "TwoTower", directory: Path) -> Progress:
        """Put the state into a model whose optimiser is built, and the best weights into a folder.

        Raises ArtifactError when it is not the state of such a model.
        """
        try:
            prefix = found.parts(f"{STATE}.")[0].with_name(STATE)
            status = tf.train.Checkpoint(model=model).read(str(prefix))
            status.assert_existing_objects_matched().assert_consumed()
        except (ArtifactError, AssertionError, ValueError, tf.errors.OpError) as error:
            raise ArtifactError(
                f"the checkpoint at {self.path} cannot be read ({_reason(error)}). Cure: `--restart` begins again"
            ) from None
        for file in found.parts(f"{BEST}."):
            shutil.copyfile(file, directory / file.name)
        return Progress(**json.loads(found.file(PROGRESS).read_text(encoding="utf-8")))

    def discard(self) -> None:
        """Remove the checkpoint: the manifest first, so that a half-removed one is none."""
        storage.remove(self.path / MANIFEST)
        storage.remove(self.path)

    def discard_finished(self) -> None:
        """Remove what a process killed between publishing its model and cleaning up has left."""
        if storage.sizes(self.path).get(MANIFEST) is not None and not self._differences(self.found()):
            self.discard()

    def found(self) -> Artifact:
        """The last checkpoint, its checksums compared, or the one before it where the last is damaged, which is told.

        Raises ArtifactError when none is whole.
        """
        try:
            return self._whole(None)
        except ArtifactError as error:
            reason = str(error).partition(" Cure:")[0]
        kept = []
        for run in storage.subfolders(self.path, "run="):
            with suppress(ArtifactError):
                kept.append(self._whole(run.name))
        if not kept:
            raise ArtifactError(f"{reason} Cure: `--restart` drops that checkpoint and begins again")
        say(f"{reason} The newest that is whole is taken")
        return max(kept, key=lambda artifact: (artifact.counts["epoch"], artifact.counts["step"]))

    def _whole(self, run: str | None) -> Artifact:
        found = open_artifact(self.path, KIND, VERSION, run=run)
        found.verify()
        return found

    def _replaced(self) -> str | None:
        """The run that the next save makes superfluous; an object store would keep it for a day."""
        try:
            return open_artifact(self.path, KIND, VERSION).manifest.get("previous")
        except ArtifactError:
            return None

    def _differences(self, found: Artifact) -> str:
        """The inputs and settings that the checkpoint's run has otherwise, in words; "" when there are none."""
        theirs, ours = found.manifest["spec"], self.spec.as_json()
        settings = differing([theirs["config"], ours["config"]])
        told = [f"`{name}` {old} -> {new}" for name, (old, new) in settings.items()]
        return ", ".join([*told, *differing([theirs["inputs"], ours["inputs"]])])

    def _tell(self, found: Artifact) -> None:
        say(f"resuming from epoch {found.counts['epoch']}, step {found.counts['step']}")
        if found.manifest["code"] != code_version():
            say(f"the checkpoint was written by code {found.manifest['code']}, this is {code_version()}")

    def _refusal(self, found: Artifact, other: str, unfinished: str) -> str:
        where = f"epoch {found.counts['epoch']}, step {found.counts['step']}"
        if unfinished == "resume":
            return (
                f"the unfinished run at {self.path} ({where}) differs in {other}. Cure: resume it with its own "
                "settings and inputs, begin again with `--restart`, or choose another `name`"
            )
        cure = "choose another `name`" if other else "go on with `--resume`"
        differs = f", of other {other}" if other else ""
        return f"{self.path} holds an unfinished run ({where}{differs}). Cure: {cure}, or begin again with `--restart`"


def _reason(error: Exception) -> str:
    """The first line of an error, which TensorFlow follows with its own source places; of a copied folder the first."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    text = getattr(error, "message", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
