"""Prepare: run the Beam jobs over the tables, each unless its artefact is current."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.errors import ConfigError, nearest
from pipeline.progress import bar, summarised


def _job(name: str) -> Callable[[Config, Sequence[str]], Artifact]:
    """The job of beam_jobs/<name>.py, imported when it runs: what one job needs is not what all wait for."""
    return lambda config, pipeline_args: import_module(f"beam_jobs.{name}").run(config, pipeline_args)


JOBS = {
    name: _job(name)
    for name in (
        "day_events",
        "window_events",
        "catalogue_counts",
        "vocabularies",
        "user_sequences",
        "joint_counts",
        "mutual_information",
        "session_cooccurrence",
        "title_neighbours",
    )
}
"""In an order in which each finds what it needs."""


def prepare(
    config: Config, only: Sequence[str] | None = None, pipeline_args: Sequence[str] = ()
) -> dict[str, Artifact]:
    """Run all jobs, or those named in `only`, and return their artefacts by name.

    A job whose artefact is current for its inputs and settings is skipped. A job left out of `only` that another
    needs must have run before. pipeline_args: Beam options, such as --runner=FlinkRunner.
    Raises ConfigError for an unknown job, ArtifactError when an input is missing.
    """
    for name in only or ():
        if name not in JOBS:
            raise ConfigError(f"there is no Beam job {name!r}.{nearest(name, JOBS)} There are: {', '.join(JOBS)}")
    artifacts = {}
    jobs = {name: run for name, run in JOBS.items() if only is None or name in only}
    with bar(jobs.items(), desc="prepare", unit="job") as shown:
        for name, run in shown:
            shown.set_postfix_str(name)
            artifacts[name] = summarised(partial(run, config, pipeline_args))
    return artifacts
