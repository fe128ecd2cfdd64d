"""The nearest items by cosine, exactly: the same bits however the work is cut. numpy and FAISS, no Beam.

The last bits of a matrix product depend on its shape and on the library. So FAISS only proposes candidates, with a
margin for its rounding; their scores are computed in one fixed way, and equal scores are ordered by item.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np

SPARE = 14
"""Candidates beyond those asked for. Too few only cost a second search, of the rows they were too few for."""
CANDIDATES_AT_ONCE = 1 << 18
PAIRS_AT_ONCE = 1 << 10
"""Small enough for their products to stay in the processor's cache."""
NOBODY = -1
"""Fills up a list that has fewer items than asked for, with a score of -inf."""

Lists = tuple[np.ndarray, np.ndarray]
"""(items int32 [n, k], scores float32 [n, k]): by score, highest first, equal ones by item, ascending."""


@dataclass(frozen=True)
class Base:
    """The items that a search may find, by their distinct vectors.

    vectors: float32 [G, D] of unit length. members: int32 [N], the items with vector 0, ascending, then those with
    vector 1, ... offsets: int64 [G + 1], where each vector's members begin.
    """

    vectors: np.ndarray
    members: np.ndarray
    offsets: np.ndarray

    @classmethod
    def build(cls, vectors: np.ndarray, group: np.ndarray, items: np.ndarray) -> "Base":
        """From items int [N] and the vector of each, float32 [N, D]; group: int [N], alike for equal vectors."""
        _, first, group = np.unique(group, return_index=True, return_inverse=True)
        offsets = np.concatenate(([0], np.cumsum(np.bincount(group, minlength=len(first)))))
        return cls(vectors[first], items[np.lexsort((items, group))].astype(np.int32), offsets)

    def best(self, queries: np.ndarray, k: int, floors: np.ndarray | None = None) -> Lists:
        """The k items nearest to each query, float32 [n, D] of unit length.

        floors: float32 [n]; items that score lower may be left out. None asks for all.
        """
        items, scores = empty_lists(len(queries), k)
        if floors is None:
            floors = np.full(len(queries), -np.inf, np.float32)
        unsettled, width = np.arange(len(queries)), min(len(self.vectors), k + SPARE)
        while len(unsettled) and width:
            rest = []
            for rows in _pieces(unsettled, CANDIDATES_AT_ONCE // width):
                items[rows], scores[rows], settled = self._among(width, queries[rows], k, floors[rows])
                rest.append(rows[~settled])
            unsettled, width = np.concatenate(rest), min(len(self.vectors), 4 * width)
        return items, scores

    def _among(self, width: int, queries: np.ndarray, k: int, floors: np.ndarray) -> tuple[np.ndarray, ...]:
        """The best of `width` candidates a query, and whether no vector beyond them can matter: bool [n]."""
        rough, groups = faiss.knn(np.ascontiguousarray(queries), self.vectors, width, faiss.METRIC_INNER_PRODUCT)
        rough, error = rough.astype(np.float64), rounding(self.vectors.shape[1])
        # k candidates score at least the k-th rough score less its error: one that is below by two errors is no match.
        enough = np.maximum(rough[:, min(k, width) - 1] - 2 * error, floors - error)
        query, column = np.nonzero(rough >= enough[:, None])
        group = groups[query, column]
        items, scores = self._items(query, group, pair_scores(queries, query, self.vectors, group), len(queries), k)
        settled = np.maximum(scores[:, -1], floors) > rough[:, -1] + error
        return items, scores, settled | (width == len(self.vectors))

    def _items(self, query: np.ndarray, group: np.ndarray, score: np.ndarray, n: int, k: int) -> Lists:
        """Scored pairs of a query and a vector -> the k best items of each of n queries."""
        counts = np.minimum(np.diff(self.offsets)[group], k)
        pair = np.repeat(np.arange(len(group)), counts)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
        item, score, query = self.members[self.offsets[group][pair] + within], score[pair], query[pair]
        order = np.lexsort((item, -score, query))
        item, score, query = item[order], score[order], query[order]
        place = np.arange(len(query)) - np.searchsorted(query, np.arange(n))[query]
        kept = place < k
        items, scores = empty_lists(n, k)
        items[query[kept], place[kept]], scores[query[kept], place[kept]] = item[kept], score[kept]
        return items, scores


def empty_lists(n: int, k: int) -> Lists:
    """n lists without any item."""
    return np.full((n, k), NOBODY, np.int32), np.full((n, k), -np.inf, np.float32)


def rounding(dim: int) -> float:
    """How far a float32 inner product of two vectors of unit length may be off, in whatever order it is summed.

    At most dim u / (1 - dim u), u = 2^-24 (Higham 2002, section 3.1); a few u more for the lengths and a rounding.
    """
    return 1.01 * (dim + 8) * 2.0**-24


def row_sums(terms: np.ndarray) -> np.ndarray:
    """float64 [n, D] -> the sum of each row, float64 [n]; `terms` is overwritten.

    Added by halves, element by element: a library's own sum may take any order.
    """
    while (width := terms.shape[1]) > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:]
        terms = terms[:, :half]
    return terms[:, 0]


def inner_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 [n, D], twice -> float32 [n], the inner product of each two rows; the same bits on any machine."""
    return row_sums(np.multiply(a, b, dtype=np.float64)).astype(np.float32)


def pair_scores(a: np.ndarray, rows_a: np.ndarray, b: np.ndarray, rows_b: np.ndarray) -> np.ndarray:
    """The inner products of a[rows_a] and b[rows_b]: float32 [n]."""
    scores = np.zeros(len(rows_a), np.float32)
    for pairs in _pieces(np.arange(len(scores)), PAIRS_AT_ONCE):
        scores[pairs] = inner_products(a[rows_a[pairs]], b[rows_b[pairs]])
    return scores


def without(lists: Lists, own: np.ndarray) -> Lists:
    """Lists of k + 1 items -> of k: without the item own[row], or without the last where that is not in the list."""
    order = np.argsort(lists[0] == own[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(lists[0], order, axis=1), np.take_along_axis(lists[1], order, axis=1)


def merge(first: Lists, second: Lists) -> Lists:
    """The best k of two lists of k; no item may be in both."""
    items, scores = (np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    order = np.lexsort((items, -scores), axis=1)[:, : first[0].shape[1]]
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _pieces(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), max(1, size)):
        yield rows[start : start + max(1, size)]
