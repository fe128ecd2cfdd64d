"""What every job shares: its runner, its counters, its progress bar and its command line."""

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from tqdm import tqdm

from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import TwoTowerError
from pipeline.storage import Location, is_remote

# DirectRunner would first try to download a Prism binary (and hang behind a firewall that drops packets).
LOCAL = ["--runner=FnApiRunner", "--direct_running_mode=multi_threading", "--direct_num_workers=2"]
NAMESPACE = "twotower"

# Beam 2.77 flushes what its local runner sends once a second from a thread of its own, and drops an element that is
# written meanwhile (TimeBasedBufferingClosableOutputStream.flush has no lock against the writer). 0: by size only.
worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0


def run_pipeline(build: Callable[[beam.Pipeline], object], pipeline_args: Sequence[str] = ()) -> dict[str, int]:
    """Run what `build` adds to a pipeline and return what it counted.

    pipeline_args: Beam options; without a `--runner` among them the job runs on this machine, two threads.
    """
    chosen = any(argument.split("=")[0] == "--runner" for argument in pipeline_args)
    pipeline = beam.Pipeline(options=PipelineOptions([*([] if chosen else LOCAL), *pipeline_args]))
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    return {c.key.metric.name: c.result for c in counters if c.key.metric.namespace == NAMESPACE}


def count(name: str, amount: int | np.integer) -> None:
    """Add to a counter of the running job; `run_pipeline` returns it."""
    Metrics.counter(NAMESPACE, name).inc(int(amount))


@contextmanager
def progress(stage: str, folders: Sequence[Location], pattern: str, expected: int) -> Iterator[None]:
    """Show a bar that follows the finished files of a stage, on whichever machine its workers write them."""
    done = threading.Event()
    pause = 5 if any(map(is_remote, folders)) else 0.5  # seconds; each look is a request to the store
    with tqdm(total=expected, desc=stage, unit="part") as bar:

        def follow() -> None:
            while not done.wait(pause):
                show()

        def show() -> None:
            finished = min(expected, sum(1 for folder in folders for _ in folder.glob(pattern)))
            if finished > bar.n:
                bar.update(finished - bar.n)
            elif sys.stderr.isatty():
                bar.refresh()  # the clock goes on; in a log it would only add lines

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            show()


def main(run: Callable[[Config, Sequence[str]], Artifact], argv: Sequence[str] | None = None) -> int:
    """The command line of one job: `--config x.yaml --set a.b=c`, everything else goes to Beam."""
    module = sys.modules[run.__module__]
    name = run.__module__ if module.__spec__ is None else module.__spec__.name
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=module.__doc__, epilog="Other options go to Apache Beam (--runner=...)."
    )
    parser.add_argument("--config", help="a YAML file; without it, all defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    arguments, pipeline_args = parser.parse_known_args(argv)
    logging.getLogger().setLevel(logging.WARNING)
    try:
        artifact = run(load_config(arguments.config, arguments.set), pipeline_args)
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{artifact.path}: {artifact.counts}")
    return 0
