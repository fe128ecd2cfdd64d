"""A running server, the load that wrk puts on it, and what it cost the server."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import ROOT

TICKS = os.sysconf("SC_CLK_TCK")
START = (
    "import json, sys\n"
    "from pipeline.config_serve import ServeConfig\n"
    "from serving.app import serve\n"
    "if __name__ == '__main__':\n"
    "    serve(sys.argv[1], ServeConfig(**json.loads(sys.argv[2])))\n"
)
# The requests are written before the first is sent: what a client does is not the server's cost, but with one
# connection both share a processor, and its caches.
SCRIPT = """
local users, requests, n = {%(users)s}, {}, 0
local head = {["Content-Type"] = "application/json"}
init = function()
  for i, user in ipairs(users) do
    requests[i] = wrk.format("POST", "%(path)s", head, '%(before)s' .. user .. '%(after)s')
  end
end
request = function()
  n = n %% #requests + 1
  return requests[n]
end
%(pause)s
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"requests":%%d,"seconds":%%f,"p50":%%f,"p99":%%f,"status":%%d,"broken":%%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


class Asked(NamedTuple):
    """How a server is asked: where, and the JSON before and after a user's id; in it %d is k."""

    path: str
    before: str
    after: str


OURS = Asked("/v1/recommend", '{"user_id":"', '","k":%d,"titles":false}')


@dataclass(frozen=True)
class Load:
    """What wrk saw, and the CPU seconds the server spent meanwhile. p50, p99: microseconds, of all answers.

    status: answers with a status of 400 and above. broken: connections that failed, and requests without an answer.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    status: int
    broken: int
    cpu: float

    @property
    def good(self) -> int:
        """Answers that were what was asked for."""
        return self.requests - self.status


@dataclass(frozen=True)
class Server:
    """A server as a process of its own. beside: other processes that work for it. asked: how it is."""

    url: str
    process: subprocess.Popen[str]
    beside: tuple[int, ...] = ()
    asked: Asked = OURS

    def workers(self) -> list[int]:
        """The process ids of its children that answer: not of those that track resources or check bundles."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def cpu(self) -> float:
        """CPU seconds of the server and its workers so far."""
        return sum(_cpu(pid) for pid in (self.process.pid, *self.workers(), *self.beside))

    def resident(self) -> int:
        """Bytes of memory of the workers that belong to no file: mapped files are shared, and may be dropped."""
        return sum(_memory(pid, "RssAnon") for pid in self.workers())

    def memory(self) -> int:
        """Bytes of memory of the workers, or of the server without any, and of what is beside; mapped files count."""
        return sum(_memory(pid, "VmRSS") for pid in (*(self.workers() or [self.process.pid]), *self.beside))

    def load(
        self, users: Sequence[str], k: int, connections: int, seconds: float, pause_ms: int = 0, threads: int = 1
    ) -> Load:
        """Ask for users in turn over so many connections; pause_ms: each rests so long before a request.

        Answers hold ids and scores, no titles: what the loop of benchmarks/raw_loop.py writes.
        """
        before = self.cpu()
        told = wrk(self.url, self.asked, users, k, connections, seconds, pause_ms, threads)
        return Load(**told, cpu=self.cpu() - before)


@contextmanager
def one_core(server: Server) -> Iterator[None]:
    """The server and the wrk of `load` share a processor.

    With one connection they take turns. On two processors each turn is an interrupt from one to the other, and in a
    virtual machine both find their caches cold after it.
    """
    cores = os.sched_getaffinity(0)
    processes = [0, *(server.workers() or [server.process.pid])]
    for pid in processes:
        os.sched_setaffinity(pid, {max(cores)})
    try:
        yield
    finally:
        for pid in processes:
            os.sched_setaffinity(pid, cores)


def wrk(
    url: str, asked: Asked, users: Sequence[str], k: int, connections: int, seconds: float, pause_ms: int, threads: int
) -> dict[str, Any]:
    """What wrk tells: the fields of Load that are not the server's. Raises RuntimeError with the cure without wrk."""
    pause = f"delay = function() return {pause_ms} end" if pause_ms else ""
    names = ",".join(json.dumps(user) for user in users)
    path = shutil.which("wrk")
    if path is None:
        raise RuntimeError("this benchmark needs wrk. Cure: apt-get install wrk (Debian, Ubuntu) or brew install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = {"path": asked.path, "before": asked.before, "after": asked.after % k}
        script.write(SCRIPT % {"users": names, "pause": pause, **body})
        script.flush()
        command = [path, f"-t{threads}", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "10s"]
        printed = subprocess.run([*command, "-s", script.name, url], capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (.*)", printed)
    if found is None:
        raise RuntimeError(f"wrk told nothing: {printed}")
    return json.loads(found[1])


def running(bundle: Path, **settings: object) -> AbstractContextManager[Server]:
    """Our server over a bundle, on a free port."""
    arguments = json.dumps({"port": 0, "events": {"store": "none"}, **settings})
    return started([sys.executable, "-c", START, str(bundle), arguments])


@contextmanager
def started(command: Sequence[str | Path]) -> Iterator[Server]:
    """A server by the command that starts it, and prints `... at URL ...` when it serves."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if " at " not in line:
                raise RuntimeError("the server did not start")
            yield Server(line.split(" at ")[1].split(" ")[0], process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory(pid: int, kind: str) -> int:
    found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
