"""The stages of the pipeline in their order, each run with a headline and a line that says what it made."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError, ConfigError
from pipeline.progress import say, summarised
from pipeline.storage import Location

if TYPE_CHECKING:
    from pipeline.evaluation_set import Phase


def _import(config: Config) -> list[Artifact]:
    from pipeline.importers import import_source

    return [summarised(lambda: import_source(config))]


def _prepare(config: Config) -> list[Artifact]:
    return _beam_jobs(config, None, ())


def _train(config: Config) -> list[Artifact]:
    from pipeline.train import train

    return [summarised(lambda: train(config))]


def _evaluate(config: Config) -> list[Artifact]:
    return [_evaluation(config, "test")]


def _export(config: Config) -> list[Artifact]:
    from pipeline.export import export

    return [summarised(lambda: export(config))]


STAGES: dict[str, Callable[[Config], list[Artifact]]] = {
    "import": _import,
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
}


def run(name: str, config: Config) -> list[Artifact]:
    """Run one stage, which skips itself when its artefact is current."""
    return _timed(name, lambda: STAGES[name](config))


def run_all(config: Config) -> None:
    """Run every stage in order."""
    for number, name in enumerate(STAGES, start=1):
        say(f"\n[{number}/{len(STAGES)}] {name} " + "-" * (60 - len(name)))
        artifacts = run(name, config)
        if name == "evaluate":
            print_report(artifacts[0])


def prepare(config: Config, only: Sequence[str] | None, beam_options: Sequence[str]) -> None:
    """Run the Beam jobs, or only those named, with options for Beam. Raises ConfigError for a stray argument."""
    if beam_options and not beam_options[0].startswith("-"):
        raise ConfigError(f"unexpected argument {beam_options[0]!r}. Cure: --only {beam_options[0]} to run one job")
    _timed("prepare", lambda: _beam_jobs(config, only, beam_options))


def evaluate(config: Config, phase: "Phase") -> None:
    """Evaluate the model on one part of the split and print the report."""
    (artifact,) = _timed("evaluate", lambda: [_evaluation(config, phase)])
    print_report(artifact)


def tune(config: Config) -> None:
    """Search for the best settings and print the table of the trials."""
    from pipeline.tune import tune as search
    from pipeline.tune_report import BEST, TRIALS

    folder = search(config)
    print((folder / TRIALS).read_text(encoding="utf-8"))
    say(f"the best settings are in {folder / BEST}; its model is trained")


def roll_back(config: Config) -> None:
    """Publish the bundle before the current one again."""
    from pipeline.artifacts import roll_back as publish_before
    from serving.bundle import KIND, OLDER, VERSION

    bundle = publish_before(config.bundle_dir, KIND, VERSION, OLDER)
    print(f"published {bundle.manifest['run']} of {bundle.manifest['created']} again at {bundle.path}")


def serve(config: Config) -> None:
    """Serve the published bundle, and those published after it, until interrupted."""
    from serving.app import serve as serve_bundle

    settings = config.serve
    if settings.compare is not None:
        settings = settings.model_copy(update={"compare": str(other_bundle(config, settings.compare))})
    serve_bundle(config.bundle_dir, settings)


def other_bundle(config: Config, name: str) -> Location | str:
    """The bundle that `serve.compare` names. Raises ArtifactError when there is none before the current one."""
    from pipeline import manifest

    if name == "previous":
        before = manifest.read(config.bundle_dir, "bundle")["previous"]
        if before is None:
            cure = "Cure: export another, or name another run"
            raise ArtifactError(f"{config.bundle_dir} has no bundle before the current one. {cure}")
        return config.bundle_dir / before
    named = config.bundle_dir.parent / name
    return name if manifest.current_run(named) is None else named


def print_report(evaluation: Artifact) -> None:
    """Print the Markdown report to stdout."""
    print(evaluation.file("report.md").read_text(encoding="utf-8"))


def _timed(name: str, stage: Callable[[], list[Artifact]]) -> list[Artifact]:
    clock = time.monotonic()
    artifacts = stage()
    say(f"{name}: {time.monotonic() - clock:.1f} s")
    return artifacts


def _beam_jobs(config: Config, only: Sequence[str] | None, beam_options: Sequence[str]) -> list[Artifact]:
    from pipeline.prepare import prepare as prepare_artifacts

    artifacts = prepare_artifacts(config, only, beam_options)
    if only is not None:
        return list(artifacts.values())
    from pipeline import data_report

    report = summarised(lambda: data_report.run(config))
    say(f"the data report is {report.location('report.md')}")
    return [*artifacts.values(), report]


def _evaluation(config: Config, phase: "Phase") -> Artifact:
    from pipeline.evaluate import run as run_evaluation

    return summarised(lambda: run_evaluation(config, phase))
