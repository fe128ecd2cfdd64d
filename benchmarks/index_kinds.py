"""Kinds of index over the vectors of a bundle, each tuned as at export: what the same recall costs with each.

    python -m benchmarks.index_kinds BUNDLE --items 1000000 --kinds auto IVF4096,Flat IVF4096,PQ32x4fsr --check
    python -m benchmarks.index_kinds BUNDLE --kinds Flat+halves Flat

Queries are the vectors of real users of the bundle. Each kind is asked for the `--k` best of one user and of 32
together, in turn; the figures are medians of CPU microseconds a user, on one thread, exact scores included where the
index has approximate ones. MB: of the index file. --items N takes a made bundle of N items in place of the trained one
(benchmarks/big_bundle.py). `+halves` after an exact kind: with the vectors in half precision beside it, as export
writes them for a large one. `--check` exits 1 when the first kind misses the target recall, or when another that
reaches it is more than a tenth faster.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
from tqdm import tqdm

from benchmarks import big_bundle
from benchmarks.measure import on_one_thread
from pipeline import export_index, export_recall
from pipeline.config import ExportConfig
from serving.bundle import Bundle
from serving.halves import Halves
from serving.index import ItemIndex

TOGETHER, ASKED, FASTER = 32, 256, 0.9
WITH_HALVES = "+halves"
NOTHING = np.empty(0, np.int64)


class Built(NamedTuple):
    """An index, as tuned; build: CPU seconds of training and filling it."""

    items: ItemIndex
    tuned: export_recall.Tuned
    megabytes: float
    build: float


def build(bundle: Bundle, queries: np.ndarray, kind: str, k: int, target: float) -> Built:
    """Build one kind over the bundle's vectors, and tune it with queries [Q, K, D]."""
    vectors, settings = np.ascontiguousarray(bundle.index.vectors), ExportConfig(index=kind.removesuffix(WITH_HALVES))
    started = time.process_time()
    shards = export_index.build(vectors, settings)
    spent = time.process_time() - started
    trial = export_recall.Trial(shards, vectors, bundle.index.norms, queries, k)
    tuned = export_recall.tune(trial, export_index.factory(settings, *vectors.shape), target)
    size = sum(faiss.serialize_index(index).nbytes for index, _ in shards) / 1e6
    items = trial.index(tuned.depth, tuned.refine)
    if kind.endswith(WITH_HALVES):
        halves = Halves(*export_index.halved(vectors))
        items = ItemIndex(items.shards, vectors, items.norms, tuned.k, halves=halves)
        size += faiss.serialize_index(halves.codes).nbytes / 1e6
    return Built(items, tuned, size, spent)


def ask(built: dict[str, Built], queries: np.ndarray, k: int) -> dict[str, dict[str, float]]:
    """CPU microseconds a user of each kind, alone and together."""
    alone: dict[str, list[float]] = {kind: [] for kind in built}
    together: dict[str, list[float]] = {kind: [] for kind in built}
    for start in range(0, len(queries) - TOGETHER + 1, TOGETHER):
        batch = queries[start : start + TOGETHER]
        for kind, each in built.items():
            started = time.process_time()
            each.items.search_many(batch, [k] * TOGETHER, [NOTHING] * TOGETHER)
            together[kind].append(1e6 * (time.process_time() - started) / TOGETHER)
            for query in batch:
                started = time.process_time()
                each.items.search(query, k)
                alone[kind].append(1e6 * (time.process_time() - started))
    return {
        kind: {"alone_us": statistics.median(alone[kind]), "together_us": statistics.median(together[kind])}
        for kind in built
    }


def show(built: dict[str, Built], cost: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Print the table. Returns its figures by kind."""
    print(f"{'':<28}{'recall':>8}{'depth':>16}{'refine':>8}{'alone us':>10}{'batch us':>10}{'MB':>8}{'build s':>9}")
    figures: dict[str, dict[str, float]] = {}
    for kind, (_, tuned, megabytes, seconds) in built.items():
        label = tuned.index + WITH_HALVES * kind.endswith(WITH_HALVES)
        depth = " ".join(f"{name} {value}" for name, value in tuned.depth.items())
        speed = "".join(f"{each:>10.0f}" for each in cost[kind].values())
        print(f"{label:<28}{tuned.recall:>8.4f}{depth:>16}{tuned.refine:>8}{speed}{megabytes:>8.0f}{seconds:>9.0f}")
        measured = {"recall": tuned.recall, "refine": tuned.refine, "mb": megabytes, "build_s": seconds}
        figures[kind] = {**cost[kind], **measured, **tuned.depth}
    return figures


def best_first(figures: list[dict[str, float]], target: float) -> bool:
    """Whether the first kind reaches the target, and no other that does is faster."""
    first, *others = figures
    good = [other for other in others if other["recall"] >= target]
    return first["recall"] >= target and all(
        first[way] * FASTER <= other[way] for other in good for way in ("alone_us", "together_us")
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--kinds", nargs="+", default=["auto", "IVF4096,Flat"], help="as export.index; compared with the first"
    )
    parser.add_argument("--items", type=int, help="take a made bundle of so many items, with the tower of this one")
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--target", type=float, default=0.99, help="recall of the k best")
    parser.add_argument("--check", action="store_true", help="exit 1 when the first kind is not the best")
    arguments = parser.parse_args(argv)
    path = arguments.bundle if arguments.items is None else big_bundle.made(arguments.bundle, arguments.items)
    bundle = Bundle.open(path)
    queries, kinds = big_bundle.queries_of(bundle), tqdm(arguments.kinds, desc="kinds")
    built = {kind: build(bundle, queries, kind, arguments.k, arguments.target) for kind in kinds}
    figures = show(built, ask(built, queries[:ASKED], arguments.k))
    met = best_first(list(figures.values()), arguments.target)
    print(json.dumps({"items": len(bundle.index), "k": arguments.k, "kinds": figures, "met": met}))
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    on_one_thread("benchmarks.index_kinds")
    sys.exit(main())
