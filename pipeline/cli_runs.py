"""`twotower runs` and `twotower tune`: many training runs side by side."""

from typing import Annotated

import typer

from pipeline import stages
from pipeline.cli_options import ConfigOption, DebugOption, SetOption
from pipeline.config_file import load_config

RUNS = """\b
Examples:
  twotower runs -c configs/ml-1m.yaml
  twotower runs -c configs/ml-1m.yaml base cfm"""
TUNE = """\b
Examples:
  twotower tune -c configs/ml-1m.yaml --set 'tune.space={train.learning_rate: {low: 1e-4, high: 1e-1, log: true}}'
  twotower tune -c shop.yaml --trials 50
  twotower train -c work/shop/studies/shop/best.yaml

A study that was stopped, or has fewer trials than are asked for now, goes on. Prints a table of the trials."""


def runs(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", show_default=False)] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """List the runs of a workdir, or compare those named.

    Of several runs only the settings that differ are shown, and the figures of each one's best epoch.
    """
    from pipeline.runs import comparison, listing

    loaded = load_config(config, settings or [])
    print(comparison(loaded, names) if names else listing(loaded))


def tune(
    config: ConfigOption = None,
    settings: SetOption = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Overrides tune.trials.")] = None,
    debug: DebugOption = False,
) -> None:
    """Search the space of tune.space for the best settings.

    Every trial is a training run, compared on the validation part; bad ones are given up early.
    """
    loaded = load_config(config, settings or [])
    if trials is not None:
        loaded.tune.trials = trials
    stages.tune(loaded)
