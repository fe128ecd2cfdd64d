"""The `twotower` command: one sub-command per stage of the pipeline, and `run` for all of them.

Results go to stdout, progress and errors to stderr. An error that the user can cure is one line, with the exit code
of its kind (pipeline/errors.py). TensorFlow, Beam and FAISS are imported by the stage that needs them, so that
`--help` and mistakes in a setting answer at once.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from pipeline import cli_runs, stages
from pipeline.cli_options import ConfigOption, Debug, DebugOption, Format, Phase, SetOption, report_unexpected
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import ConfigError, TwoTowerError
from pipeline.malloc import start_with_chosen_malloc

app = typer.Typer(
    name="twotower",
    help="Two-tower item retrieval: raw logs in, a server that answers top-K requests out.",
    epilog="""\b
Examples:
  twotower run -c configs/demo.yaml
  twotower train -c configs/demo.yaml --set name=long --set train.max_epochs=50
  twotower query -c configs/demo.yaml --user u0001 -k 10

Exit codes: 0 done, 2 a wrong option or setting, 3 an input file is not what it says, 4 an artefact is missing or
damaged, 5 a request that cannot be answered, 130 or 143 interrupted, 1 anything else.

Every stage skips itself when its inputs and settings have not changed since it last ran. The settings are listed in
docs/configuration.md.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    name="import",
    epilog="""\b
Examples:
  twotower import movielens ../data/ml-1m -c configs/ml-1m.yaml
  twotower import table logs/ -c shop.yaml --set source.table.events=clicks.parquet
  twotower import demo --set source.demo.users=500

FORMAT is movielens, recbole, table or demo. What the columns of a table mean is said by source.table.* in the config.
Rows that cannot be read are counted by reason and set aside in rejects.csv beside the tables.""",
)
def import_(
    format_: Annotated[
        Format | None,
        typer.Argument(metavar="FORMAT", help="Overrides source.format."),
    ] = None,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="The folder (or file) of raw logs; overrides source.path.")
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Turn raw logs into tables of events, items and users."""
    loaded = _load(config, settings)
    if format_ is not None:
        loaded.source.format = format_.value
    if path is not None:
        loaded.source.path = str(path)
    stages.run("import", loaded)


@app.command(
    epilog="""\b
Examples:
  twotower prepare -c configs/demo.yaml
  twotower prepare -c shop.yaml --days 28 --last-day 2026-01-31
  twotower prepare -c configs/demo.yaml --only mutual_information
  twotower prepare -c big.yaml -- --runner=FlinkRunner --flink_master=host:8081

Options after -- go to Apache Beam. Without a --runner the jobs run on this machine."""
)
def prepare(
    beam_options: Annotated[list[str] | None, typer.Argument(metavar="BEAM_OPTION", show_default=False)] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="JOB", help="Run only this Beam job. May be repeated.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Count the last so many days of the log; overrides prepare.days.")
    ] = None,
    last_day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The last of them (UTC); overrides prepare.last_day.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Run the Beam jobs over the tables.

    They are day_events, window_events, catalogue_counts, vocabularies, user_sequences, joint_counts,
    mutual_information, session_cooccurrence and title_neighbours.
    """
    window = [
        f"prepare.{name}={value}" for name, value in (("days", days), ("last_day", last_day)) if value is not None
    ]
    stages.prepare(_load(config, [*(settings or []), *window]), only, beam_options or [])


@app.command(
    epilog="""\b
Examples:
  twotower train -c configs/ml-1m.yaml
  twotower train -c configs/ml-1m.yaml --set name=cfm --set tasks.feature_masking.weight=0.3
  twotower train -c configs/ml-1m.yaml --resume
  twotower train -c shop.yaml --warm-start shop

SIGTERM and Ctrl-C write a checkpoint and stop. A run that was killed goes on from its last checkpoint."""
)
def train(
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was stopped.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Drop the run that was stopped, begin again.")] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Begin with the weights of that run (or checkpoint, or bundle)."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Train the two towers.

    The weights with the best validation HIT are kept; training stops when it no longer gets better.
    """
    if resume and restart:
        raise ConfigError("--resume and --restart exclude each other")
    loaded = _load(config, settings)
    if resume or restart:
        loaded.train.unfinished = "resume" if resume else "restart"
    if warm_start is not None:
        loaded.train.warm_start = warm_start
    stages.run("train", loaded)


app.command(epilog=cli_runs.RUNS)(cli_runs.runs)
app.command(epilog=cli_runs.TUNE)(cli_runs.tune)


@app.command(
    epilog="""\b
Examples:
  twotower evaluate -c configs/ml-1m.yaml
  twotower evaluate -c configs/ml-1m.yaml --phase validation

Writes report.json, report.md, per_user.parquet and plots; prints the table."""
)
def evaluate(
    config: ConfigOption = None,
    settings: SetOption = None,
    phase: Annotated[Phase, typer.Option(help="Choose settings on validation, report on test.")] = Phase.test,
    debug: DebugOption = False,
) -> None:
    """Evaluate exactly, beside the popularity baselines.

    Every user of the phase against the whole corpus, items already seen removed.
    """
    stages.evaluate(_load(config, settings), phase.value)


@app.command(
    epilog="""\b
Examples:
  twotower export -c configs/ml-1m.yaml
  twotower export -c shop.yaml --set export.index=IVF1024,SQ8 --set export.recall_target=0.995

Without the recall, nothing is published."""
)
def export(config: ConfigOption = None, settings: SetOption = None, debug: DebugOption = False) -> None:
    """Build and publish the bundle that is served.

    User tower, item index, ids, catalogue and vocabularies, published in one step if the index finds what it should.
    """
    stages.run("export", _load(config, settings))


@app.command(
    epilog="""\b
Examples:
  twotower rollback -c configs/demo.yaml

Servers notice within a second or so, and serve it without missing a request. Done twice, it changes nothing."""
)
def rollback(config: ConfigOption = None, settings: SetOption = None, debug: DebugOption = False) -> None:
    """Publish the bundle before the current one again."""
    stages.roll_back(_load(config, settings))


@app.command(
    epilog="""\b
Examples:
  twotower serve -c configs/demo.yaml --port 8080 --workers 4
  twotower serve -c configs/ml-1m.yaml --compare cfm
  twotower serve -c configs/demo.yaml --compare previous

The page it prints the address of shows what the bundle recommends, an item's neighbours, and a map."""
)
def serve(
    config: ConfigOption = None,
    settings: SetOption = None,
    host: Annotated[str | None, typer.Option(help="Overrides serve.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Overrides serve.port.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Overrides serve.workers.")] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Another run, a bundle's path, or `previous`; overrides serve.compare.",
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Serve the published bundle over HTTP, and every one published after it."""
    loaded = _load(config, settings)
    given = {"host": host, "port": port, "workers": workers, "compare": compare}
    loaded.serve = loaded.serve.model_copy(update={name: value for name, value in given.items() if value is not None})
    stages.serve(loaded)


@app.command(
    epilog="""\b
Examples:
  twotower query -c configs/demo.yaml --user u0001
  twotower query -c configs/demo.yaml --history i0007,i0012 -k 5
  twotower query -c configs/demo.yaml --item i0007 --json"""
)
def query(
    config: ConfigOption = None,
    settings: SetOption = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Recommend to this user.")] = None,
    history: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="Items seen, oldest first; alone or after those of --user.")
    ] = None,
    item: Annotated[str | None, typer.Option(metavar="ID", help="Find items similar to this one.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")] = 10,
    chosen: Annotated[str | None, typer.Option("--filter", metavar="JSON", help="What the items must fulfil.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: DebugOption = False,
) -> None:
    """Ask the published bundle, without a server.

    Top-K for a user or a history of items, or the items most similar to one.
    """
    loaded = _load(config, settings)
    if (item is None) == (user is None and history is None):
        raise ConfigError("query needs either --user and/or --history, or --item")
    from pipeline import query as asked

    seen = None if history is None else [part for part in history.split(",") if part]
    asked.show(asked.ask(loaded, user, seen, item, k, chosen), as_json)


@app.command(
    epilog="""\b
Examples:
  twotower run -c configs/demo.yaml"""
)
def run(config: ConfigOption = None, settings: SetOption = None, debug: DebugOption = False) -> None:
    """Run import, prepare, train, evaluate and export.

    Training goes on from where it was stopped, if it was.
    """
    loaded = _load(config, settings)
    if loaded.train.unfinished == "ask":
        loaded.train.unfinished = "auto"
    stages.run_all(loaded)


def _load(path: Path | None, settings: list[str] | None) -> Config:
    return load_config(path, settings or [])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code of what happened.

    arguments: instead of those of this process.
    """
    if arguments is None and {"train", "tune", "run"}.intersection(sys.argv[1:2]):
        start_with_chosen_malloc()
    Debug.on = False
    sys.excepthook = report_unexpected
    try:
        # Not app(), which puts an excepthook of its own over ours.
        typer.main.get_command(app)(arguments)
    except TwoTowerError as error:
        if Debug.on:
            traceback.print_exception(error)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
