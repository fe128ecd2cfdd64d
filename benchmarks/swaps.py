"""Bundles swapped under load: no request may fail, and neither latency nor memory may grow.

Seconds with swaps and seconds without take turns, each asked by a wrk of its own, and a p99 is compared with that of
the seconds before. What publishes is the one step that `twotower export` and `twotower rollback` end with; what these
cost before it, perhaps on another machine, is not measured.
"""

import os
import shutil
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from benchmarks.load import Load, Server, running
from benchmarks.measure import ROOT
from pipeline import manifest
from pipeline.artifacts import Artifact, Spec, create, open_artifact
from serving.bundle import KIND, OLDER, VERSION

TARGETS = {"failed requests": ("<=", 0.0), "p99 over steady p99": ("<=", 1.5), "memory after over before": ("<=", 1.05)}
CONNECTIONS, SEGMENT, PACE = 16, 5.0, 0.5


def twice(bundle: Path) -> tuple[Path, Artifact]:
    """The path of an artefact under work/ with two runs of the same bundle, and the one that is published."""
    source, target = open_artifact(bundle, KIND, VERSION, OLDER), ROOT / "work" / "swaps"
    shutil.rmtree(target, ignore_errors=True)
    for _ in range(2):
        with create(target, Spec(**source.manifest["spec"])) as draft:
            draft.counts |= source.counts
            for name in source.manifest["files"]:
                (draft.dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.file(name), draft.dir / name)
    return target, open_artifact(target, KIND, VERSION)


def swap(bundle: Path, users: list[str], k: int, swaps: int) -> dict[str, float]:
    """Swap so often, some twice a second, while wrk asks; the figures of TARGETS and those behind them."""
    path, published = twice(bundle)
    runs = [published.manifest, manifest.read(path / published.manifest["previous"], KIND)]
    steady: list[Load] = []
    swapped: list[Load] = []
    with running(path, max_k=k) as server, ThreadPoolExecutor(1) as asking, httpx.Client() as client:
        server.load(users, k, CONNECTIONS, 2)
        before = server.resident()
        each = int(SEGMENT / PACE)
        for start in tqdm(range(0, swaps, each), desc="swaps", unit_scale=each):
            steady.append(server.load(users, k, CONNECTIONS, SEGMENT))
            load = asking.submit(server.load, users, k, CONNECTIONS, SEGMENT)
            for number in range(start, min(start + each, swaps)):
                _swap_once(server, client, path, runs[(number + 1) % 2])
            swapped.append(load.result())
        time.sleep(2)
        after = server.resident()
    return {
        "failed requests": float(sum(load.status + load.broken for load in (*steady, *swapped))),
        "p99 over steady p99": statistics.median(b.p99 / a.p99 for a, b in zip(steady, swapped, strict=True)),
        "memory after over before": after / before,
        "swaps": float(swaps),
        "requests meanwhile": float(sum(load.requests for load in swapped)),
        "steady p99 ms": statistics.median(load.p99 for load in steady) / 1000,
        "p99 ms": statistics.median(load.p99 for load in swapped) / 1000,
        "before MB": before / 1e6,
        "after MB": after / 1e6,
    }


def _swap_once(server: Server, client: httpx.Client, path: Path, run: dict[str, Any]) -> None:
    """Publish a run, tell the server, wait until it serves it, and rest for what is left of PACE."""
    started = time.monotonic()
    manifest.replace(path, run)
    os.kill(server.process.pid, signal.SIGHUP)
    while client.get(f"{server.url}/v1/bundle").json()["run"] != run["run"]:
        if time.monotonic() > started + 120:
            raise RuntimeError("the server did not take the new bundle")
        time.sleep(0.02)
    time.sleep(max(0.0, PACE - (time.monotonic() - started)))
