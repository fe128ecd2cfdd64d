"""The space of a search: what is refused before the first trial, and what is drawn from it."""

import optuna
import pytest

from pipeline.config_file import load_config
from pipeline.errors import ConfigError
from pipeline.tune_space import Space


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{}", r"names no setting to search\. Cure"),
        ("{train.learning_rte: {choices: [1, 2]}}", r"`train\.learning_rte`\. Did you mean `learning_rate`\?"),
        ("{tain.learning_rate: {choices: [1, 2]}}", r"`tain\.learning_rate`\. Did you mean `train`\?"),
        ("{train: {choices: [1, 2]}}", r"`train` is a section\. Cure: one of"),
        ("{split.min_events: {low: 2, high: 5}}", r"is not read by training\. Cure: search settings of tower"),
        ("{train.monitor: {choices: [10, 50]}}", r"cannot be searched: trials .* compared\. Cure: leave it out"),
        ("{train.devices: {low: 1, high: 3}}", r"cannot be searched: it says how a run goes on.*Cure: leave it out"),
        ("{train.deterministic: {choices: [true, false]}}", r"cannot be searched: once on it is on for all trials"),
        ("{train.learning_rate: {low: 0.1, high: .inf}}", r"low 0\.1 and high inf must both be finite\. Cure"),
        ("{train.learning_rate: {low: 0.1, high: 0.01}}", r"nothing lies between low 0\.1 and high 0\.01"),
        ("{tower.dropout: {low: 0, high: 0.5, log: true}}", r"low is 0, which has no logarithm\. Cure: above 0"),
        ("{tower.dropout: {low: 0.1, high: 1.5}}", r"tower\.dropout\.high`: Input should be less than 1, but got 1\.5"),
        ("{tower.heads: {low: 1.5, high: 4}}", r"tower\.heads\.low`: Input should be a valid integer.*got 1\.5"),
        ("{tower.heads: {low: 1, high: 4, step: 0.5}}", r"holds integers, step is 0\.5\. Cure: a whole `step`"),
        ("{tower.heads: {low: 1, high: 4, step: 8}}", r"one value only\. Cure: a smaller `step`"),
        ("{tower.kind: {low: 1, high: 2}}", r"tower\.kind\.low`: Input should be 'ican'"),
        ("{tower.kind: {choices: [ican, mlp]}}", r"tower\.kind\.choices\.1`: Input should be 'ican'.*got 'mlp'"),
        ("{tower.kind: {choices: [ican]}}", r"leaves nothing to choose\. Cure: two or more"),
        ("{tower.normalize: {low: 0, high: 1}}", r"is no number\. Cure: `choices` instead"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space.of(load_config(None, [f"tune.space={space}"]))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{low: 1}", "`low` and `high` belong together"),
        ("{choices: [1, 2], low: 1, high: 2}", "either `choices`, or `low` and `high`"),
        ("{choices: [1, 2], log: true}", "belong to `low` and `high`"),
        ("{low: 1, high: 9, log: true, step: 2}", "`log` and `step` exclude each other"),
        ("{low: 1, high: 2, stp: 1}", r"unknown setting `tune\.space\.tower\.heads\.stp`\. Did you mean `step`\?"),
    ],
)
def test_a_range_is_of_one_form(search: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"tune.space={{tower.heads: {search}}}"])


def test_a_space_becomes_optunas_distributions_and_its_draws_a_config() -> None:
    text = (
        "{train.learning_rate: {low: 1e-4, high: 1e-1, log: true}, tower.heads: {low: 1, high: 4}, "
        "tower.history_length: {low: 10, high: 35, step: 10}, tower.dropout: {low: 0, high: 0.5, step: 0.1}, "
        "tower.hidden: {choices: [[8], [12, 8]]}, loss.logq: {choices: [all, none]}}"
    )
    space = Space.of(load_config(None, [f"tune.space={text}", "name=base"]))
    assert space.distributions == {
        "train.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "tower.heads": optuna.distributions.IntDistribution(1, 4),
        "tower.history_length": optuna.distributions.IntDistribution(10, 30, step=10),
        "tower.dropout": optuna.distributions.FloatDistribution(0, 0.5, step=0.1),
        "tower.hidden": optuna.distributions.CategoricalDistribution(["[8]", "[12, 8]"]),
        "loss.logq": optuna.distributions.CategoricalDistribution(["all", "none"]),
    }
    chosen = space.config_of({"tower.hidden": "[12, 8]", "train.learning_rate": 0.02, "loss.logq": "none"}, "trial")
    assert (chosen.tower.hidden, chosen.train.learning_rate, chosen.loss.logq) == ([12, 8], 0.02, "none")
    assert (chosen.name, chosen.tower.heads, chosen.tune.space) == ("trial", 2, {})
