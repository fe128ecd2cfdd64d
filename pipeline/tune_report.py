"""What a study found: a table of its trials, the best configuration, and plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from pipeline import local_disk
from pipeline.config import Config
from pipeline.differences import ABSENT
from pipeline.markdown import table, text
from pipeline.plots import COLOURS, INK, dress
from pipeline.tune_space import Space

BEST, TRIALS, HISTORY, IMPORTANCE = "best.yaml", "trials.md", "history.png", "importance.png"
TO_WEIGH = 4
"""Complete trials before it says anything which setting matters."""


def metric(config: Config) -> str:
    """What `tune.metric` is called in metrics.jsonl, such as `HIT@50`."""
    return f"HIT@{config.train.monitor}" if config.tune.metric == "hit" else config.tune.metric


def settings(params: Mapping[str, Any]) -> str:
    """`train.learning_rate=0.00312, tower.embedding_dim=32`."""
    return ", ".join(f"{name}={_shown(value)}" for name, value in params.items())


def write(folder: Path, config: Config, space: Space, study: optuna.Study) -> None:
    """Replace the table, and the best configuration where there is one."""
    local_disk.replace(folder / TRIALS, page(config, study))
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        return
    best = study.best_trial
    chosen = space.config_of(best.params, best.user_attrs["run"])
    # Without the defaults it is what a person would write; the run is named, so that training finds it done.
    told = chosen.model_dump(mode="json", exclude_defaults=True)
    head = f"# Trial {best.number} of {study.study_name}: {metric(config)} {best.value:.5f} on validation.\n"
    local_disk.replace(folder / BEST, head + yaml.safe_dump(told, sort_keys=False))


def draw(folder: Path, config: Config, study: optuna.Study) -> None:
    """Draw the plots; that of importance from TO_WEIGH complete trials on."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    _draw_history(folder / HISTORY, config, study)
    if len(complete) >= TO_WEIGH and len({trial.value for trial in complete}) > 1 and len(config.tune.space) > 1:
        _draw_importance(folder / IMPORTANCE, study)


def page(config: Config, study: optuna.Study) -> str:
    """The trials as Markdown: complete ones first, each kind from the best metric to the worst."""
    names = list(config.tune.space)
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    shown = [trial for trial in study.trials if trial.state.is_finished()]
    shown.sort(key=lambda trial: (trial.state != TrialState.COMPLETE, sign * np.nan_to_num(_value(trial))))
    rows = [
        [
            str(trial.number),
            trial.user_attrs.get("run", ABSENT),
            text(trial.user_attrs.get("error", trial.state.name.lower())),
            ABSENT if np.isnan(value := _value(trial)) else f"{value:.4f}",
            str(len(trial.intermediate_values)),
            *(text(_shown(trial.params.get(name, ABSENT))) for name in names),
        ]
        for trial in shown
    ]
    header = ["trial", "run", "state", text(metric(config)), "epochs", *(text(name) for name in names)]
    return "\n".join([f"# Study {study.study_name}", "", *table(header, rows, texts=(1, 2)), ""])


def _value(trial: FrozenTrial) -> float:
    """The metric of a trial; of one that was given up the last it had, NaN without any."""
    if trial.value is not None:
        return trial.value
    return trial.intermediate_values[trial.last_step] if trial.last_step is not None else float("nan")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw_history(path: Path, config: Config, study: optuna.Study) -> None:
    """The metric of every trial in its order, and the best so far."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    best = np.maximum.accumulate if study.direction == optuna.study.StudyDirection.MAXIMIZE else np.minimum.accumulate
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    numbers, values = [t.number for t in complete], [_value(t) for t in complete]
    so_far, last = best(values), max(trial.number for trial in study.trials)
    line: dict[str, Any] = {"color": COLOURS[1], "linewidth": 1.6, "label": "best so far"}
    axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", **line)
    axes.plot(numbers, values, "o", color=COLOURS[0], markersize=5, label="complete")
    hollow: dict[str, Any] = {"markerfacecolor": "none", "color": COLOURS[0]}
    axes.plot([t.number for t in pruned], [_value(t) for t in pruned], "o", markersize=5, label="pruned", **hollow)
    axes.set_xlabel("trial")
    dress(axes, f"{metric(config)} on the validation part", percent=config.tune.metric == "hit")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", frameon=False, ncols=3, labelcolor=INK)
    figure.savefig(path, dpi=150)


def _draw_importance(path: Path, study: optuna.Study) -> None:
    """How much of what sets the best trials apart is due to each setting (PED-ANOVA, Watanabe et al. 2023)."""
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    weights = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names = list(weights)[::-1]
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [weights[name] for name in names], color=COLOURS[0], height=0.6)
    axes.bar_label(bars, fmt="{:.2f}", fontsize=8, color=INK, padding=3)
    dress(axes, "Importance of each setting", percent=False)
    axes.set_xlim(0, 1.1)
    axes.set_xticks([])
    figure.savefig(path, dpi=150)
