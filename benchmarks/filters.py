"""What a filter costs and what it finds: scoring the allowed rows, asking the index, and what the engine chooses.

    python -m benchmarks.filters --items 100000 1000000 --check

Vectors of length 1 around 2,000 centres, their index the default of `export.index` and tuned as at export. A filter
lets through a share of the items: at random, or a region of the space (as a genre is one), with queries from anywhere.
Each way answers the same queries in turn, on one thread; the figures are medians of milliseconds, and recall@500 of the
allowed items. `--check` exits 1 when an answer is short, when the engine's recall is under .97, or when it takes more
than 1.5 times as long as the faster of the ways whose recall is as good (and .1 ms).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from tqdm import tqdm

from benchmarks.measure import on_one_thread
from pipeline import export_index, export_recall
from pipeline.config import ExportConfig
from serving.allowed import Allowed
from serving.index import Found, ItemIndex, Task

DIMENSION, CENTRES, K, QUERIES, TUNING = 64, 2000, 500, 20, 200
SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9)
RECALL, SLOWER, NOISE_MS = 0.97, 1.5, 0.1
Answer = Callable[[np.ndarray], Found]


def make_vectors(rng: np.random.Generator, items: int) -> np.ndarray:
    """float32 [items, D], of length 1."""
    centres = rng.standard_normal((CENTRES, DIMENSION), np.float32)
    vectors = centres[rng.integers(0, CENTRES, items)] + 0.6 * rng.standard_normal((items, DIMENSION), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_index(rng: np.random.Generator, vectors: np.ndarray) -> tuple[ItemIndex, str]:
    """The index that export would publish, and its kind."""
    queries = make_queries(rng, vectors, TUNING)[:, np.newaxis]
    settings = ExportConfig(index="auto")
    shards = export_index.build(vectors, settings)
    trial = export_recall.Trial(shards, vectors, np.linalg.norm(vectors, axis=1), queries, K)
    kind = export_index.factory(settings, *vectors.shape)
    tuned = export_recall.tune(trial, kind, settings.recall_target)
    return trial.index(tuned.depth, tuned.refine), f"{kind} {tuned.depth}"


def make_queries(rng: np.random.Generator, vectors: np.ndarray, count: int) -> np.ndarray:
    """float32 [count, D], near items."""
    near = vectors[rng.integers(0, len(vectors), count)]
    return near + 0.1 * rng.standard_normal((count, DIMENSION), np.float32)


def filters(rng: np.random.Generator, vectors: np.ndarray) -> Iterator[tuple[str, float, Allowed]]:
    """(how the allowed items lie, their share, the items)."""
    along = vectors @ rng.standard_normal(DIMENSION, np.float32)
    for lie, order in (("random", rng.permutation(len(vectors))), ("region", np.argsort(along))):
        for share in SHARES:
            mask = np.zeros(len(vectors), bool)
            mask[order[: int(share * len(vectors))]] = True
            yield lie, share, Allowed.of(np.packbits(mask, bitorder="little"), len(vectors))


def ask_index(index: ItemIndex, allowed: Allowed, query: np.ndarray) -> Found:
    """The index alone, however few it may let through."""
    task = Task(K, K, np.empty(0, np.int64), allowed)
    ((scores, rows),) = index.ask(query[np.newaxis], K, index.deeper(task), allowed)
    return index.merge(query, scores, rows, K)


def measure(index: ItemIndex, allowed: Allowed, queries: np.ndarray) -> dict[str, dict[str, float]]:
    """Milliseconds, recall and the shortest answer of each way."""
    ways: dict[str, Answer] = {
        "index": partial(ask_index, index, allowed),
        "exact": partial(index.scan, k=K, allowed=allowed),
        "engine": partial(index.search, k=K, allowed=allowed),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    hits, short = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    wanted = min(K, allowed.count)
    for turn, query in enumerate(queries[:, np.newaxis]):
        best = index.scan(query, K, allowed=allowed).rows
        # Whoever scores the allowed rows second finds them in a cache.
        for way in ("index", "exact", "engine") if turn % 2 else ("index", "engine", "exact"):
            started = time.perf_counter()
            found = ways[way](query)
            times[way].append(1000 * (time.perf_counter() - started))
            hits[way] += len(np.intersect1d(found.rows, best))
            short[way] = max(short[way], wanted - int((found.rows >= 0).sum()))
    return {
        way: {
            "ms": round(statistics.median(times[way]), 3),
            "recall": round(hits[way] / (wanted * len(queries)), 4),
            "short": short[way],
        }
        for way in ways
    }


def met(row: dict[str, dict[str, float]]) -> bool:
    """Whether the engine's answer was whole, good, and by about the faster way."""
    engine = row["engine"]
    as_good = [each["ms"] for way, each in row.items() if way != "engine" and each["recall"] >= engine["recall"] - 0.01]
    fast = engine["ms"] <= SLOWER * min(as_good) + NOISE_MS
    return engine["short"] == 0 and engine["recall"] >= RECALL and fast


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    rows: list[dict[str, object]] = []
    for items in arguments.items:
        rng = np.random.default_rng(0)
        vectors = make_vectors(rng, items)
        index, kind = make_index(rng, vectors)
        queries = make_queries(rng, vectors, QUERIES)
        print(f"\n{items:,} items, {kind}")
        print(f"{'allowed':>14}{'exact ms':>10}{'index ms':>10}{'recall':>8}{'engine ms':>11}{'recall':>8}{'short':>7}")
        for lie, share, allowed in tqdm(list(filters(rng, vectors)), leave=False, disable=None):
            row = measure(index, allowed, queries)
            exact, asked, engine = row["exact"], row["index"], row["engine"]
            print(
                f"{lie:>7} {share:>6} {exact['ms']:>9} {asked['ms']:>9} {asked['recall']:>7} {engine['ms']:>10}"
                f" {engine['recall']:>7} {engine['short']:>6} {'' if met(row) else 'MISSED'}"
            )
            rows.append({"items": items, "lie": lie, "share": share, **row, "met": met(row)})
    all_met = all(row["met"] for row in rows)
    print(json.dumps({"k": K, "rows": rows, "met": all_met}))
    return 0 if all_met or not arguments.check else 1


if __name__ == "__main__":
    on_one_thread("benchmarks.filters")
    sys.exit(main())
