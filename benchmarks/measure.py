"""Run a command in a child process and measure what it cost. The standard library only: a child's peak memory begins
with its parent's, so the measuring process must hold little.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cost:
    """What a child process cost: wall seconds; CPU seconds (user + system) of it and its children; peak resident bytes
    of the largest of them.
    """

    wall: float
    cpu: float
    peak: int


def run(command: Sequence[str | Path]) -> tuple[str, Cost]:
    """Run a command in ROOT and return what it printed and what it cost.

    Raises RuntimeError with the end of its error output when it fails.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command} exited with {process.returncode}: {errors.read()[-2000:]}")
        return output.read(), Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def on_one_thread(module: str) -> None:
    """Start this process anew with one thread for NumPy and FAISS, as a server has, unless it was started so.

    They read the variables when they load, which is before any code of a benchmark runs.
    """
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if any(name not in os.environ for name in threads):
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**os.environ, **threads})
