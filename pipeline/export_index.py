"""The FAISS index over the item vectors: built from a factory string, tuned and measured against exact search."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np

from pipeline.errors import ArtifactError, ConfigError
from pipeline.progress import bar

ADD_BATCH = 65_536
QUERY_BATCH = 64


@dataclass(frozen=True)
class Recall:
    """The measured recall@k, and the search setting it was measured at (none for an index without one)."""

    k: int
    value: float
    queries: int
    parameter: dict[str, int]


def build(vectors: np.ndarray, factory: str) -> faiss.Index:
    """Train and fill an inner-product index over float32 [N, D]. Raises ConfigError when FAISS refuses the string."""
    with _all_cores():
        try:
            index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors)
            starts = range(0, len(vectors), ADD_BATCH)
            for start in bar(starts, desc=f"index {factory}", unit="batch"):
                index.add(vectors[start : start + ADD_BATCH])
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1]
            size = len(vectors)
            raise ConfigError(f"`export.index`: FAISS cannot build {factory!r} over {size} items: {reason}") from None
    return index


def tune(index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, k: int, target: float) -> Recall:
    """Search deeper until half of the queries reach the target recall, then measure it on the other half.

    Args:
      index: over the rows of `vectors`; its nprobe or efSearch is set, when it has one.
      queries: float32 [Q, D], Q >= 2.
      k: recall is of the k best, of all items when fewer.
    """
    k = min(k, len(vectors))
    with _all_cores():
        best = _kth_scores(vectors, queries, k)
        parameter: dict[str, int] = {}
        # Half of what may be lost is kept in reserve for the difference between the halves.
        enough = (1 + target) / 2
        for setting in _settings(index):
            parameter = setting
            for name, value in setting.items():
                faiss.ParameterSpace().set_index_parameter(index, name, value)
            if recall(index, vectors, queries[::2], best[::2], k) >= enough:
                break
        return Recall(k, recall(index, vectors, queries[1::2], best[1::2], k), len(queries[1::2]), parameter)


def check(measured: Recall, target: float, factory: str) -> None:
    """Raises ArtifactError when the recall is under the target."""
    if measured.value < target:
        at = f" at {measured.parameter}" if measured.parameter else ""
        raise ArtifactError(
            f"index {factory!r} has recall@{measured.k} {measured.value:.4f}{at}, under the target {target}; "
            "nothing was published. Cure: another `export.index` (Flat is exact), or a lower `export.recall_target`"
        )


def recall(index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, best: np.ndarray, k: int) -> float:
    """The share of the k best items that the index finds; an item tied with the k-th best counts as one of them.

    Args: queries float32 [Q, D]; best float32 [Q], the exact score of each query's k-th item.
    """
    _, found = index.search(queries, k)
    hits = 0
    for query, rows, kth in zip(queries, found, best, strict=True):
        scores = vectors[rows[rows >= 0]] @ query
        hits += int(np.count_nonzero(scores >= kth - 1e-5 * max(1.0, abs(kth))))
    return hits / (k * len(queries))


def _kth_scores(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The exact score of each query's k-th best item, float32 [Q]."""
    starts = range(0, len(queries), QUERY_BATCH)
    batches = [
        faiss.knn(queries[start : start + QUERY_BATCH], vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[0][:, -1]
        for start in bar(starts, desc="exact search", unit="batch")
    ]
    return np.concatenate(batches)


def _settings(index: faiss.Index) -> Iterator[dict[str, int]]:
    """The search settings to try, shallow to deep; none for an index that has no such setting."""
    ivf = faiss.try_extract_index_ivf(index)
    name, limit = ("efSearch", int(index.ntotal)) if ivf is None else ("nprobe", int(ivf.nlist))
    try:
        faiss.ParameterSpace().set_index_parameter(index, name, limit)
    except RuntimeError:
        return  # neither IVF nor HNSW
    value = 1
    while value < limit:
        yield {name: value}
        value *= 2
    yield {name: limit}


@contextmanager
def _all_cores() -> Iterator[None]:
    """Let FAISS use every core; a server gives it one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
