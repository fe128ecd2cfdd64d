"""The space that `twotower tune` searches: checked against the configuration before the first trial."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.config_section import Section
from pipeline.config_tune import SearchConfig
from pipeline.errors import ConfigError, nearest

SECTIONS = ("tower", "loss", "tasks", "train")
"""What a trial may change: all that training reads, and nothing that `prepare` would have to run anew for."""
HOW = "it says how a run goes on, not what it learns"
FIXED = {
    "train.monitor": "trials of different ones could not be compared",
    "train.deterministic": "once on it is on for all trials",
    "train.unfinished": HOW,
    "train.checkpoint_minutes": HOW,
    "train.distribute": HOW,
    "train.devices": HOW,
    "train.shard_bytes": HOW,
}


@dataclass(frozen=True)
class Space:
    """distributions: what Optuna draws from, by dotted key. choices: those of each key that has them, by what stands
    for each in Optuna, which takes no lists."""

    base: Config
    distributions: dict[str, BaseDistribution]
    choices: dict[str, dict[Any, Any]]

    @classmethod
    def of(cls, config: Config) -> "Space":
        """The space of `tune.space`. Raises ConfigError for a key or value that no configuration could have."""
        if not config.tune.space:
            raise ConfigError(
                "`tune.space` names no setting to search. Cure: for instance "
                "`train.learning_rate: {low: 1e-4, high: 1e-1, log: true}` below it"
            )
        distributions: dict[str, BaseDistribution] = {}
        choices: dict[str, dict[Any, Any]] = {}
        for key, search in config.tune.space.items():
            _check_key(key)
            if search.choices is None:
                distributions[key] = _range(config, key, search)
            else:
                choices[key] = _choices(config, key, search.choices)
                distributions[key] = CategoricalDistribution(list(choices[key]))
        return cls(config, distributions, choices)

    def heaviest(self) -> Config:
        """The configuration with the largest weight of each task that a trial may draw: some trial needs its inputs."""
        data = self.base.model_dump(mode="json")
        for key, search in self.base.tune.space.items():
            if key.startswith("tasks.") and key.endswith(".weight"):
                _put(data, key, search.high if search.choices is None else max(self.choices[key].values()))
        return Config.model_validate(data)

    def config_of(self, params: Mapping[str, Any], name: str) -> Config:
        """The configuration of one trial, a run of that name. Raises ConfigError for an impossible combination."""
        data = self.base.model_dump(mode="json", exclude={"tune"})
        for key, value in params.items():
            _put(data, key, self.choices[key][value] if key in self.choices else value)
        try:
            return Config.model_validate(data | {"name": name})
        except ValidationError as error:
            raise ConfigError("; ".join(str(each["msg"]) for each in error.errors())) from None


def _check_key(key: str) -> None:
    section: Any = Config
    *parents, leaf = key.split(".")
    if parents[:1] and parents[0] in Config.model_fields and parents[0] not in SECTIONS:
        raise ConfigError(
            f"`tune.space`: `{key}` is not read by training. Cure: search settings of {', '.join(SECTIONS)}; for "
            f"others use a `workdir` each"
        )
    for part in [*parents, leaf]:
        known = list(section.model_fields) if _is_section(section) else []
        if part not in known:
            hint = nearest(part, known) or (f" Known here: {sorted(known)}" if known else "")
            raise ConfigError(f"`tune.space`: unknown setting `{key}`.{hint}")
        section = section.model_fields[part].annotation
    if _is_section(section):
        raise ConfigError(f"`tune.space`: `{key}` is a section. Cure: one of {sorted(section.model_fields)} below it")
    if key in FIXED:
        raise ConfigError(f"`tune.space`: `{key}` cannot be searched: {FIXED[key]}. Cure: leave it out")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _range(config: Config, key: str, search: SearchConfig) -> BaseDistribution:
    """Integers where the setting holds one, else floats."""
    low, high = (_valid(config, key, bound, getattr(search, bound)) for bound in ("low", "high"))
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (low, high)):
        raise ConfigError(f"`tune.space.{key}`: the setting is no number. Cure: `choices` instead of `low` and `high`")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"`tune.space.{key}`: low {low:g} and high {high:g} must both be finite. Cure: numbers")
    if low >= high:
        raise ConfigError(f"`tune.space.{key}`: nothing lies between low {low:g} and high {high:g}. Cure: low < high")
    if search.log and low <= 0:
        raise ConfigError(f"`tune.space.{key}`: low is {low:g}, which has no logarithm. Cure: above 0, or no `log`")
    step = search.step
    if step is not None and low + step > high:
        raise ConfigError(
            f"`tune.space.{key}`: low {low:g} and step {step:g} pass high {high:g}: one value only. Cure: a smaller "
            "`step`"
        )
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step
    if isinstance(low, int):
        if step is not None and not step.is_integer():
            raise ConfigError(f"`tune.space.{key}`: the setting holds integers, step is {step:g}. Cure: a whole `step`")
        return IntDistribution(low, int(high), log=search.log, step=int(step or 1))
    return FloatDistribution(low, high, log=search.log, step=step)


def _choices(config: Config, key: str, values: list[Any]) -> dict[Any, Any]:
    """What stands for each choice in Optuna -> the value as the configuration holds it."""
    valid = [_valid(config, key, f"choices.{place}", value) for place, value in enumerate(values)]
    named = {json.dumps(value) if isinstance(value, list | dict) else value: value for value in valid}
    if len(named) < 2:
        raise ConfigError(f"`tune.space.{key}`: {values} leaves nothing to choose. Cure: two or more `choices`")
    return named


def _valid(config: Config, key: str, where: str, value: Any) -> Any:
    """A value as the configuration holds it. Raises ConfigError when the setting cannot have it.

    What only another setting forbids is not an error here: a trial may change both.
    """
    data = config.model_dump(mode="json", exclude={"tune"})
    _put(data, key, value)
    try:
        held: Any = Config.model_validate(data)
    except ValidationError as error:
        own = [each for each in error.errors() if list(each["loc"])[: key.count(".") + 1] == key.split(".")]
        if own:
            raise ConfigError(f"`tune.space.{key}.{where}`: {own[0]['msg']}, but got {value!r}") from None
        return value
    for part in key.split("."):
        held = getattr(held, part)
    return held


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for part in parents:
        data = data[part]
    data[leaf] = value
