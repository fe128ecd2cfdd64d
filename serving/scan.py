"""Exact scoring by products and selection by numpy: faster than FAISS's own scan, above all for many at once."""

import math
from collections.abc import Iterator

import numpy as np

from serving.shard import wrapped

NONE = np.empty(0, np.int64)
BLOCK = 1 << 22
"""Scores held at once: 16 MB."""
STREAMED = 1 << 24
"""From so many bytes of vectors on they come from memory, or nearly. BLAS reads several rows at once: faster in a
cache, and a quarter slower there (64 numbers)."""
SORTED = 2
"""Up to so many times more scores than wanted, sorting all costs less than to part the best from them first."""
SAMPLED, STRIDE = 1 << 15, 16
"""Of so many scores every STRIDE-th is looked at first: to part all of them takes two to three times as long."""


def highest(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Vectors [n, D], queries [K, D] -> each vector's highest inner product, float32 [n], an array of its own."""
    if len(queries) > 1:
        return (vectors @ queries.T).max(axis=1)
    return vectors @ queries[0] if vectors.nbytes < STREAMED else _streamed(vectors, queries[0])


def _streamed(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The product of float32 [n, D] with [D], row after row."""
    scores = np.empty(len(vectors), np.float32)
    out, x, y = map(wrapped.swig_ptr, (scores, np.ascontiguousarray(query), vectors))
    wrapped.fvec_inner_products_ny(out, x, y, vectors.shape[1], len(vectors))
    return scores


def highest_of_many(vectors: np.ndarray, queries: np.ndarray) -> Iterator[np.ndarray]:
    """Vectors [N, D], queries [B, K, D] of B users -> `highest` of each user, float32 [N]."""
    users, interests, dimension = queries.shape
    step = max(1, BLOCK // (len(vectors) * interests or 1))
    for start in range(0, users, step):
        block = queries[start : start + step]
        scores = block.reshape(-1, dimension) @ vectors.T  # (b, K, D) -> (b*K, D) -> (b*K, N)
        yield from scores if interests == 1 else scores.reshape(len(block), interests, -1).max(axis=1)


def best(scores: np.ndarray, n: int) -> np.ndarray:
    """The positions int64 of the n best scores, best first, equal ones in order."""
    if n <= 0:
        return NONE
    if n >= len(scores):
        return np.argsort(-scores, kind="stable")
    top = None if len(scores) <= SORTED * n else _top(scores, n)
    losses = -(scores if top is None else scores.take(top))
    order = losses.argsort()
    ordered = losses.take(order[: n + 1])
    if (ordered[1:] == ordered[:-1]).any():  # a stable sort takes several times as long, and ties are rare
        order = losses.argsort(kind="stable")
    return order[:n] if top is None else top.take(order[:n])


def _top(scores: np.ndarray, n: int) -> np.ndarray:
    """The positions of the n best scores, 0 < n < len(scores), and of those equal to the last of them, in order."""
    few = _at_least_a_guess(scores, n) if len(scores) >= SAMPLED else NONE
    among = scores if len(few) < n else scores.take(few)
    kth = np.partition(among, len(among) - n)[len(among) - n]
    top = (among >= kth).nonzero()[0]
    return top if among is scores else few.take(top)


def _at_least_a_guess(scores: np.ndarray, n: int) -> np.ndarray:
    """Positions of the best scores, in order: most often some more than n, which a sample tells where to cut."""
    sample = scores[::STRIDE]
    share = n / STRIDE
    rank = int(share + 4 * math.sqrt(share)) + 2  # four standard deviations more than expected
    if 2 * rank > len(sample):
        return NONE
    return (scores >= np.partition(sample, len(sample) - rank)[len(sample) - rank]).nonzero()[0]
