"""How deep to search an index: recall against exact search and latency, measured on held-out queries."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np

from pipeline.errors import ArtifactError
from pipeline.export_index import all_cores
from pipeline.progress import bar
from serving.index import ItemIndex
from serving.shard import Shard

QUERY_BATCH = 64
TIMED = 50
"""Queries timed one by one at each depth."""
REFINES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""How many times more than wanted is fetched of an index whose scores are approximate, to be ordered exactly."""


@dataclass(frozen=True)
class Point:
    """What one setting of the search gives: recall@k, and the median milliseconds of one query on one thread."""

    depth: dict[str, int]
    refine: float
    recall: float
    ms: float


@dataclass(frozen=True)
class Tuned:
    """The setting chosen, and what it was chosen by.

    k, queries: `recall` is recall@k on so many queries, those that were not searched while the depth was raised.
    points: the settings tried, on the others, the chosen one last. exact_ms: of an exact scan.
    """

    index: str
    k: int
    target: float
    queries: int
    recall: float
    depth: dict[str, int]
    refine: float
    exact_ms: float
    points: list[Point]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Trial:
    """Indexes over `vectors` [N, D], and queries [Q, K, D] whose exact answers are known."""

    def __init__(
        self, shards: list[tuple[faiss.Index, int]], vectors: np.ndarray, norms: np.ndarray, queries: np.ndarray, k: int
    ) -> None:
        self.shards, self.vectors, self.norms = shards, vectors, norms
        self.queries, self.k = queries, min(k, len(vectors))
        self.best = _kth_scores(vectors, queries, self.k)

    def index(self, depth: dict[str, int], refine: float) -> ItemIndex:
        """As the server would search it."""
        shards = [Shard(index, start, depth) for index, start in self.shards]
        return ItemIndex(shards, self.vectors, self.norms, self.k, refine)

    def recall(self, index: ItemIndex, part: slice) -> float:
        """The share of the k best items that the index alone finds; an item tied with the k-th best counts as one."""
        queries, hits = self.queries[part], 0
        with all_cores():
            found = [index.ask(queries[i : i + QUERY_BATCH], self.k) for i in range(0, len(queries), QUERY_BATCH)]
        answers = [answer for batch in found for answer in batch]
        for query, answer, kth in zip(queries, answers, self.best[part], strict=True):
            rows = index.merge(query, *answer, self.k).rows
            scores = (self.vectors[rows[rows >= 0]] @ query.T).max(axis=1, initial=-np.inf)
            hits += int(np.count_nonzero(scores >= kth - 1e-5 * max(1.0, abs(kth))))
        return hits / (self.k * len(queries))

    def point(self, depth: dict[str, int], refine: float) -> Point:
        """Measure one setting on every other query."""
        index, half = self.index(depth, refine), slice(None, None, 2)

        def once(query: np.ndarray) -> None:
            (answer,) = index.ask(query[np.newaxis], self.k)
            index.merge(query, *answer, self.k)

        return Point(depth, refine, self.recall(index, half), _milliseconds(once, self.queries[half][:TIMED]))

    def scores_are_exact(self) -> bool:
        """Whether the scores of the index are inner products with the vectors as they are."""
        query = self.queries[:1]
        ((scores, rows),) = self.index({}, 0.0).ask(query, min(self.k, 100))
        scores, rows = scores[0][rows[0] >= 0], rows[0][rows[0] >= 0]
        return np.allclose(scores, self.vectors[rows] @ query[0, 0], rtol=1e-4, atol=1e-5)


def tune(trial: Trial, name: str, target: float) -> Tuned:
    """Search deeper until half of the queries reach the target recall with some in reserve, and the other half too.

    Args: trial: with at least 2 queries. name: of the index.
    """
    # Half of what may be lost is kept in reserve for the difference between the halves.
    enough = (1 + target) / 2
    depths = list(_depths(trial.shards[0][0], trial.k))
    refine, others, recall = 0.0, slice(1, None, 2), 0.0
    if not trial.scores_are_exact():
        refine = _refine(trial, depths[-1], enough)
    points = []
    for depth in bar(depths, desc="recall", unit="depth"):
        points.append(trial.point(depth, refine))
        if points[-1].recall >= enough:
            recall = trial.recall(trial.index(depth, refine), others)
            if recall >= target:
                break
    chosen = trial.index(points[-1].depth, refine)
    return Tuned(
        index=name,
        k=trial.k,
        target=target,
        queries=len(trial.queries[others]),
        recall=recall or trial.recall(chosen, others),
        depth=points[-1].depth,
        refine=refine,
        exact_ms=_milliseconds(lambda query: chosen.scan(query, trial.k), trial.queries[: TIMED // 5]),
        points=points,
    )


def _refine(trial: Trial, depth: dict[str, int], enough: float) -> float:
    """The least refinement that costs half of the loss allowed at most, found at the greatest depth; else the greatest.

    The other half is left to the depth: it would have to be almost that depth if the refinement took all.
    """
    for refine in REFINES:
        if trial.recall(trial.index(depth, refine), slice(None, None, 2)) >= (1 + enough) / 2:
            break
    return refine


def check(tuned: Tuned) -> None:
    """Raises ArtifactError when the recall is under the target."""
    if tuned.recall < tuned.target:
        at = f" at {tuned.depth}" if tuned.depth else ""
        raise ArtifactError(
            f"index {tuned.index!r} has recall@{tuned.k} {tuned.recall:.4f}{at}, under the target {tuned.target}; "
            "nothing was published. Cure: another `export.index` (Flat is exact), or a lower `export.recall_target`"
        )


def _kth_scores(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The exact score of each query's k-th best item, float32 [Q]; a score is the highest of K inner products."""
    kth = []
    with all_cores():
        for start in bar(range(0, len(queries), QUERY_BATCH), desc="exact search", unit="batch"):
            batch = queries[start : start + QUERY_BATCH]
            flat = batch.reshape(-1, batch.shape[-1])  # (B, K, D) -> (B*K, D)
            scores, rows = faiss.knn(flat, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
            for each, found in zip(scores.reshape(len(batch), -1), rows.reshape(len(batch), -1), strict=True):
                order = np.argsort(-each, kind="stable")
                _, first = np.unique(found[order], return_index=True)  # an item's highest score
                kth.append(-np.partition(-each[order][first], k - 1)[k - 1])
    return np.array(kth, dtype=np.float32)


def _depths(index: faiss.Index, k: int) -> Iterator[dict[str, int]]:
    """The depths of search to try, shallow to deep; none for an index that has no such setting."""
    ivf = faiss.try_extract_index_ivf(index)
    name, start, limit = ("efSearch", k, int(index.ntotal)) if ivf is None else ("nprobe", 1, int(ivf.nlist))
    try:
        faiss.ParameterSpace().set_index_parameter(index, name, limit)
    except RuntimeError:
        yield {}  # neither IVF nor HNSW
        return
    step = 1
    while step < limit:
        for value in sorted({step, step + step // 2}):  # 1, 2, 3, 4, 6, 8, 12, 16, ...
            if start <= value < limit:
                yield {name: value}
        step *= 2
    yield {name: limit}


def _milliseconds(once: Any, queries: np.ndarray) -> float:
    """The median time of one call, on the one thread that a server has for it."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        times = []
        for query in queries:
            started = time.perf_counter()
            once(query)
            times.append(1000 * (time.perf_counter() - started))
        return round(statistics.median(times), 4)
    finally:
        faiss.omp_set_num_threads(before)
