"""Clusters of `twotower train` processes on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conftest import ROOT

from pipeline.cluster import VARIABLE
from pipeline.config import Config

PATIENCE = 240
"""Seconds; a process takes ten to import TensorFlow and to trace its step, many more on a busy machine."""


@dataclass
class Started:
    """Processes by their tasks, and what they write to stderr."""

    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)

    def wait(self) -> dict[str, int]:
        """The exit code of each task."""
        return {task: process.wait(PATIENCE) for task, process in self.processes.items()}

    def log(self, task: str) -> str:
        return self.logs[task].read_text(encoding="utf-8")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to become true while all of them are running."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            ended = [task for task, process in self.processes.items() if process.poll() is not None]
            assert not ended, self.log(ended[0])
            assert time.monotonic() < deadline, {task: self.log(task) for task in self.logs}
            time.sleep(0.05)


@contextmanager
def started(config: Config, folder: Path, roles: dict[str, int], *options: str) -> Iterator[Started]:
    """Run `twotower train` once for every task; none of `roles` means one process without TF_CONFIG.

    What is still running at the end is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "pipeline.cli", "train", "-c", str(path), *options]
    addresses = iter(free_addresses(sum(roles.values())))
    cluster = {role: [next(addresses) for _ in range(count)] for role, count in roles.items()}
    tasks = [(role, place) for role, count in roles.items() for place in range(count)] or [("alone", 0)]
    found = Started()
    for role, place in tasks:
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        if cluster:
            environment[VARIABLE] = json.dumps({"cluster": cluster, "task": {"type": role, "index": place}})
        log = found.logs[f"{role} {place}"] = folder / f"{role}{place}.log"
        with open(log, "w", encoding="utf-8") as stream:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
        found.processes[f"{role} {place}"] = process
    try:
        yield found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait()


def free_addresses(count: int) -> list[str]:
    """Addresses that nobody listens at, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]
