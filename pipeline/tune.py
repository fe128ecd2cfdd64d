"""A search for the best settings: trials, each an ordinary training run, chosen and pruned by Optuna.

    <workdir>/studies/<name>/
        study.db            Optuna's own storage: every trial, and its metric after every epoch
        best.yaml           the configuration of the best trial so far; its model is there already
        trials.md           all trials
        *.png               pipeline/tune_report.py
    <workdir>/runs/<name>-trial-000/ ...

What is drawn for a trial depends on `tune.seed` and on the trials finished before it, so that a study which was
interrupted goes on as if it had not been. The metric is that of the validation part: no trial sees the test.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline import local_disk, storage, train_checks, tune_report
from pipeline.config import Config
from pipeline.differences import differing
from pipeline.errors import ArtifactError, ConfigError, DivergedError, TrainingInterruptedError
from pipeline.progress import bar, say
from pipeline.run_folder import METRICS, RunFolder
from pipeline.runs import best_record
from pipeline.train import HOW_TO_RUN, model_spec, train
from pipeline.tune_space import Space
from towers.keras import keras, tf

TRIES = 3
"""A trial that was killed so often is failed for good: maybe it is what needs more memory than there is."""
RUN, RETRIED, ERROR = "run", "retried", "error"
"""What is kept with a trial: its run, the number of the killed trial it repeats, and what went wrong."""


def tune(config: Config) -> Path:
    """Search until `tune.trials` are finished, those of earlier calls among them; returns the study's folder.

    Raises ConfigError for a space that cannot be searched or a study of other settings, ArtifactError while another
    process searches or when no trial gave a metric, and what stops training, such as TrainingInterruptedError.
    """
    space = Space.of(config)
    _check(space.heaviest())
    folder = config.root / "studies" / config.name
    if not isinstance(folder, Path):
        raise ConfigError(f"a study needs a local folder for its database, not {folder}. Cure: a local `workdir`")
    folder.mkdir(parents=True, exist_ok=True)
    with local_disk.locked(folder / local_disk.LOCK) as alone:
        if not alone:
            raise ArtifactError(f"another process is searching in {folder}. Cure: wait for it")
        search = Search(config, space, _study(config, folder))
        search.requeue()
        search.run(folder)
    return folder


def _check(config: Config) -> None:
    """Refuse before the first trial what would stop every one of them."""
    if config.split.kind == "none" or config.split.refit:
        setting = "split.refit" if config.split.refit else "split.kind: none"
        raise ConfigError(
            f"`{setting}` leaves no validation part to compare trials on. Cure: search without it, and refit the best"
        )
    if config.train.distribute not in ("none", "mirrored"):
        raise ConfigError(
            f"`train.distribute` is {config.train.distribute}, but a search is one process. Cure: `none` or `mirrored`"
        )
    train_checks.check_settings(config)
    train_checks.check_fields(config)
    train_checks.check_artifacts(config)


def _study(config: Config, folder: Path) -> optuna.Study:
    """Open or begin the study. Raises ConfigError when it was begun with other settings."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Each trial's model is traced anew, as it must be.
    tf.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=config.name,
        direction="maximize" if config.tune.metric == "hit" else "minimize",
        pruner=pruner(config),
        load_if_exists=True,
    )
    before, now = study.user_attrs.get("settings"), _settings(config)
    if before is None:
        study.set_user_attr("settings", now)
    elif others := differing([before, now]):
        told = ", ".join(f"`{name}` {old} -> {new}" for name, (old, new) in others.items())
        raise ConfigError(
            f"the study at {folder} was begun with other settings: {told}. Cure: those again, another `name`, or "
            "delete that folder"
        )
    return study


def _settings(config: Config) -> dict[str, Any]:
    """What all trials of a study have in common, as JSON holds it: their inputs, the fixed settings, the space."""
    sections = config.model_dump(include={"split", "tower", "loss", "tasks", "train"}, exclude={"train": HOW_TO_RUN})
    search = config.tune.model_dump(include={"space", "metric", "seed"})
    return json.loads(json.dumps({"inputs": model_spec(config, None).inputs, **sections, "tune": search}))


def pruner(config: Config) -> optuna.pruners.BasePruner:
    """What `tune.pruner` names."""
    if config.tune.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if config.tune.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=config.train.max_epochs)
    return optuna.pruners.NopPruner()


class Search:
    """The trials of one study, one after another."""

    def __init__(self, config: Config, space: Space, study: optuna.Study) -> None:
        self.config, self.space, self.study = config, space, study

    def finished(self) -> list[FrozenTrial]:
        """The trials that need not be run: complete, pruned, or failed by themselves."""
        retried = {trial.user_attrs.get(RETRIED) for trial in self.study.trials}
        return [t for t in self.study.trials if t.state.is_finished() and t.number not in retried]

    def requeue(self) -> None:
        """Fail the trials of a process that was killed, and put their settings and what they trained first in line."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            tries, before = 1, trial
            while RETRIED in before.user_attrs:
                tries, before = tries + 1, self.study.trials[before.user_attrs[RETRIED]]
            self.study.tell(trial.number, state=TrialState.FAIL)
            if tries < TRIES:
                say(f"trial {trial.number} was killed: it is tried again")
                attributes = {RETRIED: trial.number, RUN: self._run_name(trial)}
                self.study.enqueue_trial(trial.params, user_attrs=attributes)
            else:
                say(f"trial {trial.number} was killed for the {TRIES}rd time: it is failed")

    def run(self, folder: Path) -> None:
        """Run trials until there are enough, and describe the study after each."""
        total = self.config.tune.trials
        with bar(total=total, initial=min(len(self.finished()), total), desc="trials", unit="trial") as shown:
            while (done := len(self.finished())) < total:
                seed = np.random.SeedSequence([self.config.tune.seed, done]).generate_state(1)
                self.study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
                trial = self.study.ask(self.space.distributions)
                say(f"\ntrial {trial.number} ({done + 1}/{total}): {tune_report.settings(trial.params)}")
                self._run(trial)
                tune_report.write(folder, self.config, self.space, self.study)
                shown.update()
        if not self.study.get_trials(states=(TrialState.COMPLETE,)):
            errors = list(dict.fromkeys(t.user_attrs[ERROR] for t in self.study.trials if ERROR in t.user_attrs))
            raise ArtifactError(f"no trial of {folder} came to an end: {'; '.join(errors)}. Cure: another `tune.space`")
        tune_report.draw(folder, self.config, self.study)

    def _run(self, trial: Trial) -> None:
        if self._same(trial):
            return
        name = self._run_name(trial)
        trial.set_user_attr(RUN, name)
        keras.backend.clear_session()  # or the graphs of all trials would stay in memory
        try:
            chosen = self.space.config_of(trial.params, name)
            chosen.train.unfinished = "auto"
            model = train(chosen, partial(self._watch, trial, chosen.train.max_epochs))
        except optuna.TrialPruned:
            storage.remove(self.config.root / "runs" / name / "checkpoint")
            self._end(trial, TrialState.PRUNED)
        except (ConfigError, DivergedError) as error:
            storage.remove(self.config.root / "runs" / name / "checkpoint")
            trial.set_user_attr(ERROR, str(error))
            self._end(trial, TrialState.FAIL)
        except TrainingInterruptedError as error:
            stopped = str(error).partition(" Cure:")[0]
            raise TrainingInterruptedError(f"{stopped} Cure: `twotower tune` again", error.exit_code) from None
        else:
            lines = model.file(METRICS).read_text(encoding="utf-8").splitlines()
            self._end(trial, TrialState.COMPLETE, self._metric(best_record([json.loads(line) for line in lines])))

    def _same(self, trial: Trial) -> bool:
        """End a trial whose settings were tried before as that one was: training is repeatable."""
        for other in self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
            if other.params == trial.params:
                trial.set_user_attr(RUN, other.user_attrs[RUN])
                say(f"the same as trial {other.number}")
                self.study.tell(trial, other.value if other.state == TrialState.COMPLETE else None, other.state)
                return True
        return False

    def _watch(self, trial: Trial, epochs: int, records: list[dict[str, Any]]) -> None:
        """Tell Optuna of the epochs it does not know; those of before the run was resumed are among them."""
        known = self.study.trials[trial.number].intermediate_values
        for record in records:
            if record["epoch"] not in known:
                trial.report(self._metric(record), record["epoch"])
        if len(records) < epochs and trial.should_prune():
            raise optuna.TrialPruned

    def _metric(self, record: dict[str, Any]) -> float:
        name, validation = tune_report.metric(self.config), record.get("validation", {})
        if name not in validation:
            raise ArtifactError(f"the validation part has too few users for {name}. Cure: a `split` that gives it more")
        return float(validation[name])

    def _end(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        """Tell Optuna, note it in the run's folder, and remove weights that are not kept."""
        self.study.tell(trial, value, state)
        say(f"trial {trial.number}: {state.name.lower()}{'' if value is None else f', {value:.4f}'}")
        name = trial.user_attrs[RUN]
        RunFolder(self.config.model_copy(update={"name": name})).note_trial(
            self.config.name, trial.number, state.name.lower()
        )
        if state == TrialState.COMPLETE and self.config.tune.keep == "best":
            best = self.study.best_trial.user_attrs[RUN]
            for run in {each.user_attrs[RUN] for each in self.study.trials if RUN in each.user_attrs} - {best}:
                storage.remove(self.config.root / "runs" / run / "model")

    def _run_name(self, trial: Trial | FrozenTrial) -> str:
        return trial.user_attrs.get(RUN) or f"{self.config.name}-trial-{trial.number:03d}"
