"""Bundles swapped under load: no request may fail, and neither latency nor memory may grow."""

import os
import shutil
import signal
import statistics
import threading
import time
from pathlib import Path

import httpx
from tqdm import tqdm

from benchmarks.load import Load, Server, running
from benchmarks.measure import ROOT
from pipeline.artifacts import Spec, create, open_artifact, roll_back
from serving.bundle import KIND, OLDER, VERSION

TARGETS = {"failed requests": ("<=", 0.0), "p99 over steady p99": ("<=", 1.5), "memory after over before": ("<=", 1.05)}
CONNECTIONS, SEGMENT, PACE = 16, 5.0, 0.5


def twice(bundle: Path) -> Path:
    """An artefact under work/ with two runs of the same bundle, so that each can be rolled back to the other."""
    source, target = open_artifact(bundle, KIND, VERSION, OLDER), ROOT / "work" / "swaps"
    shutil.rmtree(target, ignore_errors=True)
    for _ in range(2):
        with create(target, Spec(**source.manifest["spec"])) as draft:
            draft.counts |= source.counts
            for name in source.manifest["files"]:
                (draft.dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.file(name), draft.dir / name)
    return target


def swap(bundle: Path, users: list[str], k: int, swaps: int) -> dict[str, float]:
    """Swap so often, some twice a second, while wrk asks; the figures of TARGETS and those behind them."""
    path = twice(bundle)
    with running(path, max_k=k) as server:
        server.load(users, k, CONNECTIONS, 2)
        steady = [server.load(users, k, CONNECTIONS, SEGMENT) for _ in range(3)]
        before = server.resident()
        loads: list[Load] = []
        done = threading.Event()
        asking = threading.Thread(target=lambda: _ask(server, users, k, loads, done))
        asking.start()
        try:
            for _ in tqdm(range(swaps), desc="swaps"):
                started = time.monotonic()
                _swap_once(server, path)
                time.sleep(max(0.0, PACE - (time.monotonic() - started)))
        finally:
            done.set()
            asking.join()
        steady += [server.load(users, k, CONNECTIONS, SEGMENT) for _ in range(3)]
        time.sleep(2)
        after = server.resident()
    every = [*steady, *loads]
    p99, calm = (statistics.median(load.p99 for load in some) for some in (loads, steady))
    return {
        "failed requests": float(sum(load.status + load.broken for load in every)),
        "p99 over steady p99": p99 / calm,
        "memory after over before": after / before,
        "swaps": float(swaps),
        "requests meanwhile": float(sum(load.requests for load in loads)),
        "steady p99 ms": calm / 1000,
        "p99 ms": p99 / 1000,
        "before MB": before / 1e6,
        "after MB": after / 1e6,
    }


def _ask(server: Server, users: list[str], k: int, loads: list[Load], done: threading.Event) -> None:
    while not done.is_set():
        loads.append(server.load(users, k, CONNECTIONS, SEGMENT))


def _swap_once(server: Server, path: Path) -> None:
    """Publish the other run, tell the server, and wait until it serves it."""
    run = roll_back(path, KIND, VERSION, OLDER).manifest["run"]
    os.kill(server.process.pid, signal.SIGHUP)
    until = time.monotonic() + 120
    while httpx.get(f"{server.url}/v1/bundle").json()["run"] != run:
        if time.monotonic() > until:
            raise RuntimeError("the server did not take the new bundle")
        time.sleep(0.02)
