"""The training loop: epochs, validation, the best weights, and a checkpoint often enough to lose nothing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoints import BEST, Checkpoints, Progress
from pipeline.config import Config
from pipeline.dataset import TrainDataset
from pipeline.devices import Done, OneDevice
from pipeline.errors import DivergedError, TrainingInterruptedError
from pipeline.progress import bar, say
from pipeline.run_folder import BAD_BATCH, METRICS, RunFolder, metrics_lines
from pipeline.stop_signal import StopSignal, listening
from pipeline.validation import Validation
from pipeline.watch import Watch
from towers.keras import tf
from towers.two_tower import TwoTower

EpochWatcher = Callable[[list[dict[str, Any]]], None]
STOPPED = 143
"""The exit code of a process that stops because another one got a SIGTERM."""


@dataclass
class Fit:
    """One training run: a compiled model, its data, and where its results go.

    mine: finds hard negatives, when it is time; called before every step with the number of those before it.
    directory: the local folder of the model being written; the best weights lie there. Of several workers that train
      together only the chief validates, and writes; the others follow.
    watcher: called after every epoch with the records of all of them; a run that it raises in is given up.
    """

    model: TwoTower
    config: Config
    dataset: TrainDataset
    mine: Callable[[int], None]
    validation: Validation | None
    directory: Path
    checkpoints: Checkpoints
    folder: RunFolder
    devices: OneDevice
    watcher: EpochWatcher | None = None
    watch: Watch | None = None
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.steps = self.devices.steps(self.model, self.dataset.signature())
        self.stop, self.told_to_stop = StopSignal(), False
        self.saved = time.monotonic()

    def run(self) -> dict[str, float]:
        """Run the epochs that are left; leaves the best weights in the directory. Returns the manifest's counts.

        Raises DivergedError at a loss that is not finite, TrainingError for a checkpoint that cannot be written,
        TrainingInterruptedError after a SIGTERM or SIGINT, and whatever `watcher` raises.
        """
        monitored = f"HIT@{self.config.train.monitor}"
        with listening() as self.stop:
            while not self.progress.finished(self.config.train):
                record: dict[str, Any] = {"epoch": self.progress.epoch, **self._run_epoch()}
                hit = float(self.progress.epoch)  # without a validation part, later is better
                if self.validation:
                    hit = self.devices.from_chief(self.validation.hit)
                    record["validation"] = {monitored: hit}
                self._end_epoch(record, hit)
        if not self.progress.records:
            self.checkpoints.save_best(self.model, self.directory)  # of no epoch: what the run began with
        (self.directory / METRICS).write_text(metrics_lines(self.progress.records), encoding="utf-8")
        if self.watch:
            tf.train.Checkpoint(model=self.model).read(str(self.directory / BEST)).assert_consumed()
            self.watch.end(np.bincount(self.dataset.events.items, minlength=self.dataset.negatives.rows))
        return self._counts()

    def _run_epoch(self) -> dict[str, Any]:
        """The rest of one pass over the train events."""
        progress, examples = self.progress, len(self.dataset.events.items)
        if not progress.step:
            for mean in self.model.means.values():
                mean.reset_state()
        before = self._examples()
        started, cpu = time.monotonic(), time.process_time()
        with bar(
            total=examples, initial=before, desc=f"epoch {progress.epoch}", unit=" examples", unit_scale=True, delay=1
        ) as shown:
            for batch in self.dataset.epoch(progress.epoch, progress.step):
                self.mine(self._number())
                done = self._examples()
                self._run_step(batch)
                shown.update(self._examples() - done)
                shown.set_postfix(loss=f"{progress.loss_sum / max(progress.step, 1):.4f}")
                self._save_when_due()
            self._note(self.steps.finish())
        losses = {name: float(mean.result()) for name, mean in self.model.means.items()}
        speed = (examples - before) / (time.monotonic() - started)
        return {
            "loss": progress.loss_sum / max(progress.step, 1),
            "losses": losses,
            "examples_per_second": round(speed, 1),
            "cpu_seconds": round(time.process_time() - cpu, 2),
        }

    def _run_step(self, batch: Mapping[str, tf.Tensor]) -> None:
        self._note(self.steps.submit(batch, stop=self.stop.name is not None))

    def _note(self, steps: list[Done]) -> None:
        """Take note of steps that are over."""
        progress = self.progress
        for done in steps:
            progress.step += 1
            if not np.isfinite(done.loss):
                self._refuse(f"loss is {done.loss}")
            if not np.isfinite(done.gradient_norm) and self.config.train.precision != "float16":
                # In float16 such a step was skipped, to find the loss scale.
                self._refuse(f"gradient's norm is {done.gradient_norm}")
            progress.loss_sum += done.loss
            self.told_to_stop = self.told_to_stop or done.stop
            if self.watch:
                self.watch.step(self._number(), done.loss, done.gradient_norm)

    def _refuse(self, what: str) -> None:
        """Stop at a step that is not finite, before anything of it is kept; the chief keeps the batch."""
        epoch, step = self.progress.epoch, self.progress.step
        where = self.folder.path / BAD_BATCH
        if self.devices.chief:
            self.folder.save_batch(next(self.dataset.batches(epoch, step - 1, part=(0, 1))))
        raise DivergedError(
            f"the {what} in epoch {epoch}, step {step}; its batch is in {where}. "
            "Cure: a smaller `train.learning_rate`, or a larger temperature, and `--restart`; or under another `name`, "
            f"from the last checkpoint, `--warm-start {self.checkpoints.path}`"
        )

    def _save_when_due(self) -> None:
        due = time.monotonic() - self.saved >= 60 * self.config.train.checkpoint_minutes
        stopping = self.told_to_stop or (self.stop.name is not None and self.devices.alone)
        if not (due or stopping):
            return
        self._note(self.steps.finish())
        saved = self._save()
        if stopping:
            at = "the checkpoint is written" if saved else "the last checkpoint is an earlier one"
            raise TrainingInterruptedError(
                f"stopped by {self.stop.name or 'a signal to another worker'} at {self.progress}; {at}. Cure: "
                "`--resume` goes on from there",
                self.stop.exit_code or STOPPED,
            )

    def _end_epoch(self, record: dict[str, Any], hit: float) -> None:
        number, better = self._number(), self.progress.complete(record, hit)
        if not self.devices.chief:
            return
        if self.validation:
            record["validation"] |= self.validation.spread()
        self._say(record)
        if better:
            self.checkpoints.save_best(self.model, self.directory)
        self._save()
        self.folder.write_metrics(self.progress.records)
        if self.watch:
            self.watch.epoch(number, record["examples_per_second"], record.get("validation", {}))
        if self.watcher:
            self.watcher(self.progress.records)

    def _say(self, record: dict[str, Any]) -> None:
        validation = "".join(f", validation {name} {value:.4f}" for name, value in record.get("validation", {}).items())
        speed = f"{record['examples_per_second']:,.0f} examples/s"
        say(f"epoch {record['epoch']}: loss {record['loss']:.4f}{validation}, {speed}")

    def _number(self) -> int:
        """How many steps the run has done."""
        return (self.progress.epoch - 1) * len(self.dataset) + self.progress.step

    def _examples(self) -> int:
        """How many examples of the epoch are trained on."""
        return min(self.progress.step * self.config.train.batch_size, len(self.dataset.events.items))

    def _save(self) -> bool:
        self.saved = time.monotonic()
        return not self.devices.chief or self.checkpoints.save(self.model, self.progress, self.directory)

    def _counts(self) -> dict[str, float]:
        progress = self.progress
        counts: dict[str, float] = {
            "examples": len(self.dataset.events.items),
            "epochs": progress.epoch - 1,
            "best_epoch": progress.best_epoch,
        }
        if self.validation and progress.records:
            counts[f"validation_hit_at_{self.config.train.monitor}"] = round(progress.best, 5)
        return counts
