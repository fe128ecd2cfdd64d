"""The search: what is refused before the first trial, what a study does, and how it goes on after a kill."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from kill_fixture import Executioner, executioner
from optuna.trial import TrialState
from train_fixtures import EAGER_DATA, at_step, config_of, eagerly, prepare_log, records, send

from pipeline import tune_report
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import ArtifactError, ConfigError, TrainingInterruptedError
from pipeline.runs import listing
from pipeline.train import train
from pipeline.tune import TRIES, Search, pruner, tune

pytestmark = pytest.mark.filterwarnings(EAGER_DATA)
RATE = "{train.learning_rate: {low: 1e-4, high: 1e-1, log: true}}"
BOTH = "{train.learning_rate: {low: 1e-4, high: 1e-1, log: true}, tower.hidden: {choices: [[8], [12, 8]]}}"


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    yield from eagerly()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tune"))
    prepare_log(folder)
    return folder


def searching(workdir: str, name: str, *overrides: str, space: str = RATE) -> Config:
    cheap = ["tower.kind=youtube_dnn", "train.monitor=5", "train.deterministic=true"]
    return config_of(workdir, name, *cheap, "tune.trials=3", "tune.pruner=none", f"tune.space={space}", *overrides)


def trials(config: Config) -> list[optuna.trial.FrozenTrial]:
    folder = Path(config.workdir) / "studies" / config.name
    return optuna.load_study(study_name=config.name, storage=f"sqlite:///{folder / 'study.db'}").trials


def told(each: list[optuna.trial.FrozenTrial]) -> list[tuple[dict[str, Any], float | None]]:
    return [(trial.params, trial.value) for trial in each if trial.state == TrialState.COMPLETE]


@pytest.mark.parametrize("setting", ["split.refit=true", "split.kind=none"])
def test_a_search_needs_a_validation_part(workdir: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"leaves no validation part to compare trials on\. Cure: search without"):
        tune(searching(workdir, "blind", setting))


def test_a_weight_that_a_trial_may_draw_needs_its_artefact_before_the_first(workdir: str) -> None:
    space = "{tasks.session_level.weight: {choices: [0, 0.3]}}"
    with pytest.raises(ArtifactError, match=r"`tasks\.session_level\.weight` is 0\.3, but no session_cooccurrence"):
        tune(searching(workdir, "without", space=space))
    assert not (Path(workdir) / "studies" / "without").exists()


def test_a_search_needs_a_local_folder(workdir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tune._check", lambda config: None)
    with pytest.raises(ConfigError, match=r"needs a local folder for its database.*Cure: a local `workdir`"):
        tune(searching("memory://nowhere", "remote"))


# --- a study ---


@pytest.fixture(scope="module")
def study(workdir: str) -> Config:
    config = searching(workdir, "whole", "tune.trials=4", space=BOTH)
    tune(config)
    return config


def test_each_trial_is_a_run_and_its_value_the_validation_hit(study: Config) -> None:
    assert len(trials(study)) == 4
    best = max(trials(study), key=lambda trial: trial.value)
    chosen = load_config(Path(study.workdir) / "studies" / "whole" / "best.yaml")
    assert chosen.name == best.user_attrs["run"]
    lines = records(chosen)
    assert best.value == max(line["validation"]["HIT@5"] for line in lines)
    assert best.intermediate_values == {line["epoch"]: line["validation"]["HIT@5"] for line in lines}
    shown = listing(study)
    for trial in trials(study):
        assert trial.user_attrs["run"].replace("_", r"\_") in shown


def test_the_best_config_is_trained_already_and_gives_the_same_in_a_run_of_its_own(study: Config) -> None:
    path = Path(study.workdir) / "studies" / "whole" / "best.yaml"
    chosen = load_config(path)
    before = train(chosen)
    assert before.manifest["run"] == train(chosen).manifest["run"]
    assert set(yaml.safe_load(path.read_text())) <= {"name", "workdir", "source", "tower", "train", "watch"}
    anew = train(load_config(path, ["name=anew"]))
    assert anew.counts == before.counts


def test_only_the_best_model_is_kept(study: Config) -> None:
    runs = Path(study.workdir) / "runs"
    best = load_config(Path(study.workdir) / "studies" / "whole" / "best.yaml").name
    kept = {trial.user_attrs["run"] for trial in trials(study) if (runs / trial.user_attrs["run"] / "model").exists()}
    assert kept == {best}
    assert "complete as trial 0 of whole" in listing(study) or best.endswith("000")


def test_the_table_and_the_plots_lie_in_the_folder_of_the_study(study: Config) -> None:
    folder = Path(study.workdir) / "studies" / "whole"
    lines = (folder / tune_report.TRIALS).read_text().splitlines()
    assert lines[0] == "# Study whole"
    assert len(lines) == 4 + 4
    values = [float(line.split("|")[4]) for line in lines[4:]]
    assert values == sorted(values, reverse=True)
    for name in (tune_report.HISTORY, tune_report.IMPORTANCE):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_study_that_is_complete_runs_nothing(study: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_run", lambda *_: pytest.fail("a trial was run"))
    tune(study)


def test_a_study_of_other_settings_is_refused(study: Config) -> None:
    other = study.model_copy(update={"train": study.train.model_copy(update={"batch_size": 64})})
    with pytest.raises(ConfigError, match=r"other settings: `train\.batch_size` 128 -> 64\. Cure: those again"):
        tune(other)


def test_more_trials_go_on_where_fewer_ended(workdir: str, study: Config) -> None:
    for count in (1, 2):
        tune(searching(workdir, "grown", f"tune.trials={count}", space=BOTH))
    assert told(trials(searching(workdir, "grown"))) == told(trials(study))[:2]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("median", optuna.pruners.MedianPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_pruners_by_name(name: str, kind: type) -> None:
    assert type(pruner(load_config(None, [f"tune.pruner={name}"]))) is kind


def test_trials_that_fall_behind_are_pruned_and_leave_no_model(workdir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tune.pruner", lambda _: optuna.pruners.MedianPruner(n_startup_trials=1))
    space = "{train.learning_rate: {choices: [0.0000001, 0.02]}, train.seed: {low: 1, high: 1000}}"
    config = searching(workdir, "pruned", "tune.trials=4", space=space)
    tune(config)
    pruned = [trial for trial in trials(config) if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        run = Path(workdir) / "runs" / trial.user_attrs["run"]
        assert len(trial.intermediate_values) == 1
        assert not (run / "model" / "MANIFEST.json").exists()
        assert not (run / "checkpoint").exists()
        assert f"pruned as trial {trial.number} of pruned" in listing(config)


def test_settings_that_were_tried_are_not_tried_again(workdir: str) -> None:
    config = searching(workdir, "finite", "tune.trials=4", space="{tower.heads: {choices: [1, 2]}}")
    tune(config)
    assert len({trial.user_attrs["run"] for trial in trials(config)}) == 2
    values = {(trial.params["tower.heads"], trial.value) for trial in trials(config)}
    assert len(values) == 2


def test_an_impossible_combination_fails_its_trial_only(workdir: str) -> None:
    config = searching(workdir, "heads", "tower.kind=ican", "tune.trials=6", space="{tower.heads: {choices: [2, 3]}}")
    tune(config)
    failed = [trial for trial in trials(config) if trial.state == TrialState.FAIL]
    assert failed
    assert all("cannot be cut into `tower.heads` 3" in trial.user_attrs["error"] for trial in failed)
    assert load_config(Path(workdir) / "studies" / "heads" / "best.yaml").tower.heads == 2


def test_a_search_in_which_nothing_came_to_an_end_says_why(workdir: str) -> None:
    config = searching(
        workdir, "hopeless", "tower.kind=ican", "tune.trials=2", space="{tower.heads: {choices: [3, 5]}}"
    )
    with pytest.raises(ArtifactError, match=r"no trial of .* came to an end: .*`tower\.heads`.*Cure: another"):
        tune(config)


# --- interrupted ---


def tune_until(config: Config, steps: int) -> None:
    """Search, and die by SIGKILL after so many training steps."""
    with at_step(steps, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        tune(config)


@pytest.fixture(scope="module")
def killer() -> Iterator[Executioner]:
    with executioner() as process:
        yield process


def test_a_killed_study_goes_on_as_if_it_had_not_been(workdir: str, killer: Executioner, study: Config) -> None:
    config = searching(workdir, "killed", "tune.trials=2", space=BOTH)
    assert killer.dies(1, frozenset(), Path(workdir), tune_until, config, 9)
    tune(config)
    states = [trial.state for trial in trials(config)]
    assert states.count(TrialState.FAIL) == 1
    assert told(trials(config)) == told(trials(study))[:2]


def test_a_trial_that_is_killed_again_and_again_is_failed_for_good(workdir: str) -> None:
    config = searching(workdir, "fatal")
    for _ in range(TRIES):
        with pytest.raises(KeyboardInterrupt), at_step(1, _raise_interrupt):
            tune(config)
    tune(config)
    assert [trial.state for trial in trials(config)][: TRIES + 1] == [TrialState.FAIL] * TRIES + [TrialState.COMPLETE]


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_a_stopped_trial_goes_on_from_its_checkpoint(workdir: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = searching(workdir, "stopped", "tune.trials=1")
    with at_step(2, send(signal.SIGTERM)), pytest.raises(TrainingInterruptedError, match="Cure: `twotower tune` again"):
        tune(config)
    tune(config)
    assert "resuming from epoch 1, step 2" in capsys.readouterr().err
    first, second = trials(config)
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params
    assert first.user_attrs["run"] == second.user_attrs["run"]


def test_a_second_search_of_the_same_study_is_refused(workdir: str) -> None:
    config = searching(workdir, "twice")
    with (
        at_step(1, lambda: tune(config)),
        pytest.raises(ArtifactError, match=r"another process is searching in .*Cure: wait"),
    ):
        tune(config)


def test_the_storage_survives_as_a_plain_database(study: Config) -> None:
    path = Path(study.workdir) / "studies" / "whole" / "study.db"
    with closing(sqlite3.connect(path)) as database:
        (check,) = database.execute("pragma integrity_check").fetchone()
    assert check == "ok"
