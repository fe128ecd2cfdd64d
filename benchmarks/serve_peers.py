"""Our server beside others, over the same vectors of items, asked for the same users, at matched recall.

    python -m benchmarks.serve_peers --bundle work/ml-1m/bundles/base-2 --check
    python -m benchmarks.serve_peers --bundle work/ml-1m/bundles/base-2 --items 1000000 --sides ours hnswlib scann

`ours` looks as deep as it takes for the wanted recall of these k, which may be less than what the bundle was tuned for.
`hnswlib`, `usearch`, `scann` and `qdrant` (its engine as a library, qdrant-edge; its server is in no package registry)
stand behind our handler, in the place of our index, each as deep as it takes for the wanted recall.
`librecommender` is its own server: sanic, Redis and FAISS. It is given the users' vectors, so it runs no tower.

Needs wrk and redis-server. The others are installed under work/ by this script. Each side runs one worker and is asked
by 1 and by 64 connections, in turn, in rounds; figures are medians. `--check` exits 1 when a side at the same recall
answers more requests per CPU second than ours.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import big_bundle, measure, peer_librecommender
from benchmarks.load import Server, started
from benchmarks.measure import ROOT
from benchmarks.peer_indexes import PEERS, use_environment
from benchmarks.peer_tune import user_vectors
from benchmarks.raw_loop import names_of, users_of
from serving.bundle import Bundle

SIDES = ["ours", *PEERS, "librecommender"]
COLUMNS = {
    "recall": "recall",
    "c64_per_second": "requests/s",
    "c64_cpu_us": "CPU us",
    "c1_p50_us": "p50 us, c=1",
    "c64_p50_us": "p50 us, c=64",
    "c64_p99_us": "p99 us, c=64",
    "memory_mb": "MB",
    "index_us": "index alone us",
    "build_seconds": "build s",
}


def tune(bundle: Path, side: str, k: int, recall: float) -> dict[str, float]:
    """See benchmarks/peer_tune.py."""
    command = [sys.executable, "-m", "benchmarks.peer_tune", str(bundle), side, str(_folder(bundle, side))]
    printed, _ = measure.run([*command, "--k", str(k), "--recall", str(recall)])
    return json.loads(printed.splitlines()[-1])


def _folder(bundle: Path, side: str) -> Path:
    return ROOT / "work" / "serve_peers" / "built" / bundle.name / side


@contextmanager
def server_of(side: str, path: Path, k: int, depth: int) -> Iterator[Server]:
    """A running server of a side."""
    if side == "librecommender":
        bundle = Bundle.open(path)
        users = dict(zip(names_of(bundle), user_vectors(bundle, users_of(bundle)), strict=True))
        with peer_librecommender.running(bundle, users, depth) as server:
            yield server
    else:
        settings = json.dumps({"port": 0, "events": {"store": "none"}, "max_k": k})
        place: list[str | Path] = [path, side, str(depth), _folder(path, side)]
        with started([sys.executable, "-m", "benchmarks.peer_server", *place, settings]) as server:
            yield server


def measured(server: Server, users: list[str], k: int, seconds: float, rounds: int) -> dict[str, float]:
    """Medians over the rounds. Raises RuntimeError when the server refuses or breaks."""
    seen: dict[str, list[float]] = {}
    server.load(users, k, 8, 1)
    for _ in range(rounds):
        for c in (1, 64):
            load = server.load(users, k, c, seconds)
            if load.status or load.broken:
                raise RuntimeError(f"{load.status} refused, {load.broken} broken of {load.requests} requests")
            figures = {"per_second": load.requests / load.seconds, "cpu_us": 1e6 * load.cpu / load.requests}
            for name, value in {**figures, "p50_us": load.p50, "p99_us": load.p99}.items():
                seen.setdefault(f"c{c}_{name}", []).append(value)
    return {"memory_mb": server.memory() / 1e6, **{name: statistics.median(of) for name, of in seen.items()}}


def show(figures: dict[str, dict[str, float]]) -> None:
    """The table."""
    print(f"{'':<16}" + "".join(f"{title:>16}" for title in COLUMNS.values()))
    for side, of in figures.items():
        print(f"{side:<16}" + "".join(f"{of[name]:>16,.{3 if name == 'recall' else 0}f}" for name in COLUMNS))


def beaten_by(figures: dict[str, dict[str, float]], slack: float = 0.005) -> list[str]:
    """The sides with at least our recall, but for `slack`, that cost less CPU per request."""
    ours = figures["ours"]
    return [
        side
        for side, of in figures.items()
        if of["c64_cpu_us"] < ours["c64_cpu_us"] and of["recall"] >= ours["recall"] - slack
    ]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="a published bundle")
    parser.add_argument("--items", type=int, help="ask a made bundle of so many items, with the tower of this one")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.99, help="of the k best, that the others are tuned to")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit 1 when another side is better")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    use_environment()
    path = arguments.bundle if arguments.items is None else big_bundle.made(arguments.bundle, arguments.items)
    users = names_of(Bundle.open(path))
    figures: dict[str, dict[str, Any]] = {}
    for side in tqdm(arguments.sides, desc="sides"):
        figures[side] = tune(path, side, arguments.k, arguments.recall)
        with server_of(side, path, arguments.k, int(figures[side]["depth"])) as server:
            figures[side] |= measured(server, users, arguments.k, arguments.seconds, arguments.rounds)
        tqdm.write(f"{side}: {json.dumps(figures[side])}", file=sys.stderr)  # for who stops a run of an hour
    show(figures)
    met = "ours" not in figures or not beaten_by(figures)
    print(json.dumps({"items": arguments.items, "k": arguments.k, "figures": figures, "met": met}))
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
