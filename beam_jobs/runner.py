"""The runner of a job: its options, its job server, and its failures told in one line."""

import ctypes
import logging
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from functools import cache

from apache_beam.options.pipeline_options import GoogleCloudOptions, JobServerOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from pipeline import errors
from pipeline.errors import JobError, TwoTowerError

# DirectRunner would first try to download a Prism binary (and hang behind a firewall that drops packets).
# In memory: two threads need twice the memory and a sixth more CPU, as what they exchange goes through gRPC.
LOCAL = ["--runner=FnApiRunner", "--direct_running_mode=in_memory"]
# Beam 2.77 flushes what its local runner sends once a second from a thread of its own, and drops an element that is
# written meanwhile (TimeBasedBufferingClosableOutputStream.flush has no lock against the writer). 0: by size only.
worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
WITH_JOB_SERVER = ("FlinkRunner", "SparkRunner")
# They tell what `failure` tells as well, and each start of a server, across the progress bar.
REPETITIVE = (
    "apache_beam.runners.common",
    "apache_beam.runners.worker.sdk_worker",
    "apache_beam.utils.subprocess_server",
)
CURE = "Cure: docs/runners.md tells what a runner needs; `--debug` shows the traceback"


# mallopt(3): allocate large blocks from the heap as well, and keep what is freed. Otherwise every large numpy array is
# mapped and unmapped anew, and on a virtual machine the page faults take a fifth of the CPU time of a job.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let this process reuse the memory that large arrays free, where its C library (glibc) can be told to."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


def module_name(of: object) -> str:
    """The dotted name of the module that defines `of`, also while that module runs as a program."""
    module = sys.modules[of.__module__]
    return of.__module__ if module.__spec__ is None else module.__spec__.name


def is_local(pipeline_args: Sequence[str]) -> bool:
    """Whether a job with these Beam options runs in this process."""
    return all(argument.split("=")[0] != "--runner" for argument in pipeline_args)


def runner_options(build: object, pipeline_args: Sequence[str]) -> PipelineOptions:
    """Beam's options for the pipeline that `build` makes; without a `--runner` it runs on this machine.

    The job is named after the module of `build`, unless a `--job_name` says otherwise.
    """
    local = is_local(pipeline_args)
    if local:
        keep_freed_memory()
    options = PipelineOptions([*(LOCAL if local else []), *pipeline_args])
    named = options.view_as(GoogleCloudOptions)
    if named.job_name is None:
        job = module_name(build).rpartition(".")[2].replace("_", "-")
        named.job_name = f"{job}-{uuid.uuid4().hex[:8]}"  # Dataflow refuses the name of a running job
    if options.view_as(StandardOptions).runner in WITH_JOB_SERVER:
        _share_job_server(options, tuple(pipeline_args))
    for name in REPETITIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return options


def _share_job_server(options: PipelineOptions, pipeline_args: tuple[str, ...]) -> None:
    """Let all jobs of this process use one job server; Beam would start one per job, and stop them all at exit.

    Beam starts none whose command line is that of a running one. So the two parts that it would draw are fixed.
    """
    server = options.view_as(JobServerOptions)
    port, folder = _drawn_once(pipeline_args)
    server.job_port = server.job_port or port
    server.artifacts_dir = server.artifacts_dir or folder.name


@cache
def _drawn_once(_: tuple[str, ...]) -> tuple[int, tempfile.TemporaryDirectory]:
    """A free port, and a folder that is gone when the process exits."""
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        return unused.getsockname()[1], tempfile.TemporaryDirectory(prefix="beam-artifacts-")


def failure(error: Exception, options: PipelineOptions) -> TwoTowerError:
    """What to tell the user of an error from the runner: the error of ours that a worker met, or a JobError."""
    name, message = _worker_error(str(error)) or (type(error).__name__, " ".join(str(error).split()))
    job, runner = options.view_as(GoogleCloudOptions).job_name, options.view_as(StandardOptions).runner
    what = f"the Beam job {job} failed on {runner}"
    known = getattr(errors, name.removeprefix(f"{errors.__name__}."), None)
    if known is not None and issubclass(known, TwoTowerError):
        return known(f"{what}: {message}")
    reason = f"{name}: {message}" if message else name
    return JobError(f"{what}: {reason.rstrip('.')}. {CURE}")


def _worker_error(text: str) -> tuple[str, str] | None:
    """The name and message of the exception that the last traceback in a runner's text ends with."""
    _, traceback, rest = text.rpartition("Traceback (most recent call last):\n")
    frames = ("  ", "\t")  # of Python, and of Java after them
    told = (line for line in rest.splitlines() if line and not line.startswith(frames))
    name, _, message = " ".join(map(str.strip, told)).partition(": ")
    return (name, message) if traceback else None
