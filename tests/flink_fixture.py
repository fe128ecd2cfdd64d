"""What tests/test_flink.py runs: the command, a Flink cluster of two processes, and a pool of workers in others."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOB_SERVER = ROOT / "work" / "flink" / "job-server.jar"
# Java 17 keeps shut what Flink's serializers look into; the manifest of the jar opens it for the job server alone.
OPENED = ["--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED"]
SLOTS = 2
FLINK = f"""
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {{rpc}}
rest.address: localhost
rest.port: {{rest}}
taskmanager.host: localhost
taskmanager.numberOfTaskSlots: {SLOTS}
taskmanager.cpu.cores: {SLOTS}
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 512m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.managed.size: 256m
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
"""


def twotower(*arguments: str) -> subprocess.CompletedProcess:
    """Run the command of this clone; its output is text."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Start a JobManager and a TaskManager, and give their address; logs and settings go to `folder`."""
    rpc, rest = free_ports(2)
    (folder / "flink-conf.yaml").write_text(FLINK.format(rpc=rpc, rest=rest), encoding="utf-8")
    runtime = "org.apache.flink.runtime"
    mains = [f"{runtime}.entrypoint.StandaloneSessionClusterEntrypoint", f"{runtime}.taskexecutor.TaskManagerRunner"]
    with ExitStack() as stack:
        for main in mains:
            command = ["java", *OPENED, "-Xmx768m", "-cp", str(JOB_SERVER), main, "--configDir", str(folder)]
            stack.enter_context(process(command, folder))
        wait_until(lambda: free_slots(rest) == SLOTS, folder)
        yield f"localhost:{rest}"


def free_slots(rest: int) -> int:
    """The slots that a cluster offers, 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://localhost:{rest}/overview", timeout=5) as answer:
            return json.load(answer)["slots-available"]
    except OSError:
        return 0


@contextmanager
def worker_pool(folder: Path, packages: Path) -> Iterator[str]:
    """Start a pool of Beam workers that have our code from `packages`, and give its address; they live in `folder`."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    # The pool starts each of its workers as `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with process(command, folder, {"PYTHONPATH": str(packages), "PATH": path}):
        wait_until(lambda: answers(port), folder)
        yield f"localhost:{port}"


def answers(port: int) -> bool:
    """Does anybody listen there?"""
    with socket.socket() as client:
        return client.connect_ex(("localhost", port)) == 0


@contextmanager
def process(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a program in `folder`, its output in a log there, until the block ends."""
    with (folder / f"{time.monotonic_ns()}.log").open("wb") as log:
        started = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            started.terminate()
            started.wait(30)


def wait_until(ready: Callable[[], bool], folder: Path, seconds: float = 120) -> None:
    """Wait for a server; its logs are the message of the error when it does not come up."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("\n".join(log.read_text(errors="replace")[-3000:] for log in folder.glob("*.log")))
        time.sleep(0.3)


def free_ports(n: int) -> list[int]:
    """Ports that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
