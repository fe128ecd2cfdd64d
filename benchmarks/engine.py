"""What the engine adds to the tower and the index: `Retriever.recommend` beside the raw loop over the same bundle.

    python -m benchmarks.engine work/ml-1m/bundles/ml-1m --check

The raw loop runs the LiteRT interpreter on inputs encoded beforehand, then FAISS for k items. The engine is given a
user id: it looks the user up, encodes the request, and leaves out what the user has seen, for which it fetches as many
items more; the raw loop is timed once for k and once for as many as the engine fetches. All answer the same users on
one thread, in turn, but never the same user one after another: the second would find all of it in the cache. The
figures are medians of microseconds. `--check` exits 1 when the engine takes more than 1.15 times the raw loop that
fetches as much.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import on_one_thread
from serving.bundle import Bundle
from serving.retriever import Query, Retriever

TARGET = 1.15


def raw_answer(bundle: Bundle, inputs: dict[str, np.ndarray], k: int) -> None:
    """The tower and the index, and nothing else."""
    vectors = bundle.tower(inputs)[0]
    for shard in bundle.index.shards:
        shard.index.search(vectors, k)


def measure(bundle: Bundle, users: list[str], k: int) -> dict[str, float]:
    """Median microseconds of an answer."""
    retriever = Retriever(bundle)
    ways: dict[str, list[Callable[[], object]]] = {"raw k": [], "raw fetched": [], "engine": []}
    for user_id in users:
        user = bundle.users.index(user_id)
        history = bundle.users.history(user)
        inputs = bundle.encode(user, history, {})
        fetched = min(len(bundle.index), k + len(history))
        ways["raw k"].append(partial(raw_answer, bundle, inputs, k))
        ways["raw fetched"].append(partial(raw_answer, bundle, inputs, fetched))
        ways["engine"].append(partial(retriever.recommend, Query(user_id, k=k)))
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(len(users)):
        for place, (way, calls) in enumerate(ways.items()):
            call = calls[(turn + place * len(users) // len(ways)) % len(users)]
            started = time.perf_counter()
            call()
            times[way].append(1e6 * (time.perf_counter() - started))
    return {way: round(statistics.median(values), 1) for way, values in times.items()}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--k", type=int, nargs="+", default=[10, 50, 500])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    arguments = parser.parse_args(argv)
    bundle = Bundle.open(arguments.bundle)
    drawn = np.random.default_rng(0).integers(1, len(bundle.users) + 1, arguments.users)
    figures = {k: measure(bundle, bundle.users.ids.decode(drawn), k) for k in arguments.k}
    ratios = {k: round(each["engine"] / each["raw fetched"], 3) for k, each in figures.items()}
    print(f"{'k':>5} {'raw k us':>10} {'raw fetched us':>15} {'engine us':>10} {'ratio':>7}")
    for k, each in figures.items():
        print(f"{k:>5} {each['raw k']:>10} {each['raw fetched']:>15} {each['engine']:>10} {ratios[k]:>7}")
    met = max(ratios.values()) <= TARGET
    print(json.dumps({"items": len(bundle.index), "microseconds": figures, "ratio": ratios, "met": met}))
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    on_one_thread("benchmarks.engine")
    sys.exit(main())
