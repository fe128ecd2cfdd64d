"""Top-K of the item vectors for one query: a FAISS index, and an exact scan where the index would come back short."""

from pathlib import Path

import faiss
import numpy as np

EXACT_SHARE = 0.25
"""From this share of the catalogue on, fetching costs more than scanning all of it."""


class ItemIndex:
    """N item vectors and the FAISS index built over them. An item is its row, 0 .. N - 1.

    Args:
      index: any FAISS index over the rows of `vectors`, inner product.
      vectors: float32 [N, D], possibly memory-mapped.
    """

    def __init__(self, index: faiss.Index, vectors: np.ndarray) -> None:
        if (index.ntotal, index.d) != vectors.shape:
            raise ValueError(f"the index holds {index.ntotal} x {index.d}, but the vectors are {vectors.shape}")
        self._index = index
        self.vectors = np.asarray(vectors)
        self._norms = np.maximum(np.sqrt(np.einsum("nd,nd->n", self.vectors, self.vectors)), 1e-12)
        self._unit = bool(np.allclose(self._norms, 1.0, atol=1e-3))

    @classmethod
    def read(cls, index_path: Path, vectors_path: Path) -> "ItemIndex":
        """Read the index, and map the vectors into memory."""
        return cls(faiss.read_index(str(index_path)), np.load(vectors_path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: np.ndarray, k: int, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k rows of highest inner product with the query, best first; all allowed rows when fewer than k are.

        Args:
          query: float32 [D].
          excluded: int [E], distinct rows never to return.
        Returns: rows int64 [m] and their scores float32 [m], m = min(k, N - E), for any index kind and exclusion.
        """
        wanted = min(k, len(self) - len(excluded))
        fetched = wanted + len(excluded)
        if fetched < len(self) * EXACT_SHARE:
            _, found = self._index.search(query[np.newaxis], fetched)
            rows = drop(found[0], excluded)[:wanted]
            if len(rows) == wanted:  # else the index did not reach enough allowed items
                return self._ranked(rows, query)
        return self.scan(query, k, excluded)

    def scan(self, query: np.ndarray, k: int, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `search` returns, exactly, by scoring every row."""
        return _best(self.vectors @ query, k, excluded)

    def similar(self, row: int, k: int, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k rows of highest cosine with one row, which is not among them; otherwise as `search`."""
        query, excluded = self.vectors[row], np.union1d(excluded, [row])
        if self._unit:
            return self.search(query, k, excluded)
        # The index ranks by inner product, under which a long vector is everybody's neighbour.
        return _best(self.vectors @ query / (self._norms * self._norms[row]), k, excluded)

    def _ranked(self, rows: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Order rows by their exact scores: a compressed index knows only approximate ones."""
        scores = self.vectors[rows] @ query
        order = np.argsort(-scores, kind="stable")
        return rows[order], scores[order]


def drop(rows: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """The rows, in order, without FAISS's -1 (nothing found) and without the excluded ones."""
    rows = rows[rows >= 0]
    if len(excluded) == 0:
        return rows
    excluded = np.sort(excluded)
    place = np.minimum(np.searchsorted(excluded, rows), len(excluded) - 1)
    return rows[excluded[place] != rows]


def _best(scores: np.ndarray, k: int, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all scores but the excluded ones (which it overwrites), equal scores in row order."""
    wanted = min(k, len(scores) - len(excluded))
    if wanted <= 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores[excluded] = -np.inf
    kth = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    top = np.flatnonzero(scores >= kth)
    top = top[np.argsort(-scores[top], kind="stable")][:wanted]
    return top, scores[top]
