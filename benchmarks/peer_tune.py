"""Builds a peer's index over a bundle's vectors, and finds the depth of search at which it is as good as wanted.

    python -m benchmarks.peer_tune BUNDLE NAME FOLDER --k 100 --recall 0.99

NAME: of benchmarks/peer_indexes.py, or `ours`, the bundle's own index, or `librecommender`, one as its
`save_faiss_index` makes it. Recall is that of the k best against an exact scan, for real users of the bundle.
Prints one JSON line.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import peer_librecommender
from benchmarks.measure import on_one_thread
from benchmarks.peer_indexes import PEERS, Opened, deepen_ours, depths_of_ours, use_environment
from benchmarks.raw_loop import users_of
from serving.bundle import Bundle
from serving.scan import best

USERS = 500
PROBES = (1, 2, 4, 6, 8, 10, 14, 20, 28, 40, 56, 80)


def user_vectors(bundle: Bundle, users: list[int]) -> np.ndarray:
    """float32 [Q, D], of towers with one vector a user."""
    encoded = [bundle.encode(user, bundle.users.history(user), {}) for user in users]
    return np.concatenate([bundle.tower(inputs)[0] for inputs in encoded])


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Rows [Q, k] found and wanted -> the share of those wanted that were found, mean over the queries."""
    return float(np.mean([np.isin(wanted, rows).mean() for rows, wanted in zip(found, exact, strict=True)]))


def opened_at(bundle: Bundle, name: str, folder: Path) -> tuple[Opened, tuple[int, ...], float]:
    """The index, the depths to try, and the seconds it took to build, 0 when it was there."""
    vectors, seconds = bundle.index.vectors, 0.0
    if name == "ours":
        ours = Opened(lambda q, n: _ours(bundle, q, n), lambda deep: deepen_ours(bundle.index, deep))
        return ours, depths_of_ours(bundle.index), 0.0
    if name == "librecommender":
        index = peer_librecommender.index_of(bundle, 1)
        return Opened(index.search, lambda deep: setattr(index, "nprobe", deep)), PROBES, 0.0
    use_environment()
    if not (folder / "built").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        PEERS[name].build(vectors, folder)
        seconds = time.perf_counter() - started
        (folder / "built").touch()
    return PEERS[name].open(folder, *vectors.shape), PEERS[name].depths, seconds


def _ours(bundle: Bundle, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    found = [bundle.index.search(query[np.newaxis], n) for query in queries]
    return np.stack([each.scores for each in found]), np.stack([each.rows for each in found])


def tuned(opened: Opened, depths: tuple[int, ...], queries: np.ndarray, exact: np.ndarray, target: float) -> dict:
    """The first depth that reaches the target, or the last; what it reaches; and its latency for one query."""
    search: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] = opened.search
    reached, depth = 0.0, 0
    for depth in depths:
        opened.deepen(depth)
        reached = recall(search(queries, exact.shape[1])[1], exact)
        if reached >= target:
            break
    times = []
    for query in queries[:200]:
        started = time.perf_counter()
        search(query[np.newaxis], exact.shape[1])
        times.append(time.perf_counter() - started)
    return {"depth": depth, "recall": reached, "index_us": 1e6 * float(np.median(times))}


def main() -> None:
    """Print what was found for one index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("name", choices=["ours", "librecommender", *PEERS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.99)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    queries = user_vectors(bundle, users_of(bundle)[:USERS])
    exact = np.stack([best(bundle.index.vectors @ query, arguments.k) for query in queries])
    opened, depths, seconds = opened_at(bundle, arguments.name, arguments.folder)
    print(json.dumps({"build_seconds": seconds, **tuned(opened, depths, queries, exact, arguments.recall)}))


if __name__ == "__main__":
    on_one_thread("benchmarks.peer_tune")
    main()
