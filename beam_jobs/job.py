"""What every job shares: its counters, its progress bar and its command line."""

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricResults
from apache_beam.runners.runner import PipelineState

from beam_jobs.runner import failure, module_name, runner_options
from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import JobError, TwoTowerError
from pipeline.progress import bar, summarised
from pipeline.storage import Location, glob, is_remote

NAMESPACE = "twotower"


def run_pipeline(build: Callable[[beam.Pipeline], object], pipeline_args: Sequence[str] = ()) -> dict[str, int]:
    """Run what `build` adds to a pipeline and return what it counted.

    pipeline_args: Beam options; without a `--runner` among them the job runs in this process.
    Raises the error of ours that a worker met, or JobError; either names the job.
    """
    options = runner_options(build, pipeline_args)
    pipeline = beam.Pipeline(options=options)
    build(pipeline)
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
        if state != PipelineState.DONE:
            raise RuntimeError(f"it ended in state {state}")
    except Exception as error:
        raise failure(error, options) from error
    return _counted(result.metrics())


def _counted(metrics: MetricResults) -> dict[str, int]:
    """Our counters, summed over the steps. A runner that knows no committed ones (Flink) gives those attempted."""
    totals: dict[str, int] = {}
    for counter in metrics.query()["counters"]:
        if counter.key.metric.namespace == NAMESPACE:
            totals[counter.key.metric.name] = totals.get(counter.key.metric.name, 0) + counter.result
    return totals


def count(name: str, amount: int | np.integer) -> None:
    """Add to a counter of the running job; `run_pipeline` returns it."""
    Metrics.counter(NAMESPACE, name).inc(int(amount))


@contextmanager
def progress(stage: str, folders: Sequence[Location], pattern: str, expected: int) -> Iterator[None]:
    """Show a bar that follows the finished files of a stage, on whichever machine its workers write them."""
    done = threading.Event()
    # In seconds; a look at a store is a request for each folder, of which one a second does no harm.
    pause = max(5.0, len(folders)) if any(map(is_remote, folders)) else 0.5
    with bar(total=expected, desc=stage, unit="part") as shown:
        if shown.disable:
            yield
            return

        def follow() -> None:
            while not done.wait(pause):
                show()

        def show() -> None:
            finished = min(expected, sum(1 for folder in folders for _ in folder.glob(pattern)))
            shown.update(finished - shown.n)
            shown.refresh()  # the clock goes on

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            show()


def check_parts(stage: str, folder: Location, pattern: str, expected: int) -> None:
    """Raise JobError unless as many files match in `folder`: a runner that loses elements must not go unnoticed."""
    if (found := len(glob(folder, pattern))) != expected:
        raise JobError(
            f"{stage}: {found} parts of {expected} came out of Beam. Nothing was published. Cure: run it again, and "
            "report the runner and its version if this repeats"
        )


def main(run: Callable[[Config, Sequence[str]], Artifact], argv: Sequence[str] | None = None) -> int:
    """The command line of one job: `--config x.yaml --set a.b=c`, everything else goes to Beam."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module_name(run)}",
        description=sys.modules[run.__module__].__doc__,
        epilog="Other options go to Apache Beam (--runner=...).",
    )
    parser.add_argument("--config", help="a YAML file; without it, all defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    arguments, pipeline_args = parser.parse_known_args(argv)
    logging.getLogger().setLevel(logging.WARNING)
    try:
        config = load_config(arguments.config, arguments.set)
        artifact = summarised(lambda: run(config, pipeline_args))
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(artifact.path)
    return 0
