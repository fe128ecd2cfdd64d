"""The `tune` section: which settings `twotower tune` searches, and how."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config_section import Section


class SearchConfig(Section):
    """The values that are tried of one setting: either `choices`, or numbers from `low` to `high`."""

    choices: list[Any] | None = None
    low: float | None = None
    high: float | None = None
    """Included."""
    step: PositiveFloat | None = None
    """Only `low`, `low` + `step`, ...; of integers 1 if not given."""
    log: bool = False
    """As likely between 1e-4 and 1e-3 as between 1e-3 and 1e-2."""

    @model_validator(mode="after")
    def _one_form(self) -> "SearchConfig":
        bounds = (self.low, self.high)
        if (self.choices is None) == (bounds == (None, None)):
            raise ValueError("give either `choices`, or `low` and `high`")
        if self.choices is not None and (self.step or self.log):
            raise ValueError("`step` and `log` belong to `low` and `high`, not to `choices`")
        if self.choices is None and None in bounds:
            raise ValueError("`low` and `high` belong together")
        if self.log and self.step:
            raise ValueError("`log` and `step` exclude each other")
        return self


class TuneConfig(Section):
    """The search of `twotower tune`, by Optuna."""

    space: dict[str, SearchConfig] = Field(default={})
    """By dotted name, settings of `tower`, `loss`, `tasks` and `train`: `train.learning_rate:
    {low: 1e-4, high: 1e-1, log: true}`, `tower.embedding_dim: {choices: [32, 64]}`, `tower.history_length: {low: 10,
    high: 50, step: 10}`."""
    metric: Literal["hit", "alignment", "uniformity_users", "uniformity_items"] = "hit"
    """Of the validation part, at the epoch whose weights are kept. HIT@`train.monitor` is best high, the others low."""
    trials: PositiveInt = 20
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are given up after an epoch. `median`: those below the median of the others at that epoch, from the
    sixth trial on. `hyperband`: all but the best third, again and again (Li et al. 2018)."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Of the sampler; `train.seed` is that of each run."""
    keep: Literal["best", "all"] = "best"
    """The trials whose trained weights stay on disk."""
