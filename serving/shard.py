"""One FAISS index of any kind, searched at a depth and through a selector that its kind understands."""

from collections.abc import Callable, Mapping
from typing import Any

import faiss
import numpy as np

wrapped: Any = faiss
"""FAISS as Python sees it: its stubs do not know the arguments that its wrappers add."""

Params = Callable[[float, "faiss.IDSelector | None"], "faiss.SearchParameters | None"]
"""(how many times deeper than tuned, selector) -> what FAISS calls search parameters."""

GRAPH_SHARE = 0.5
"""A graph search walks through rows that are not allowed too; with fewer allowed than this it finds too little."""
BIT_NS, ROW_NS, CODE_NS = 1.5, 80.0, 15.0
"""What inverted lists cost per row in them, and more per allowed row; those of codes that are scanned in registers, per
row, allowed or not (64 numbers), see benchmarks/filters.py."""


class Shard:
    """Rows start .. start + n - 1 of the items.

    Args:
      index: any FAISS index, inner product.
      start: its first row; a multiple of 8, so that a bitmap of all rows can be cut without being shifted.
      depth: {"nprobe": n} of an IVF index, {"efSearch": n} of a graph, as tuned at export; else {}.
    """

    def __init__(self, index: faiss.Index, start: int = 0, depth: Mapping[str, int] | None = None) -> None:
        if start % 8:
            raise ValueError(f"a shard starts at a multiple of 8, not at {start}")
        self.index, self.start, self.size = index, start, int(index.ntotal)
        for name, value in (depth or {}).items():
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        self.flat = isinstance(faiss.downcast_index(index), faiss.IndexFlat)
        """Whether it does nothing but score every row."""
        self._params = _params(index)
        self._selective = self._selects()

    def filtered_ns(self, share: float, deeper: float) -> float:
        """About how many nanoseconds per row of the shard a search costs that allows a share of the rows.

        Infinite where scoring the allowed rows without the index is better in any case.
        """
        inner = _innermost(self.index)
        if not self._selective or isinstance(inner, faiss.IndexFlatCodes):
            return np.inf
        if isinstance(inner, faiss.IndexHNSW):
            return 0.0 if share >= GRAPH_SHARE else np.inf
        probed = min(1.0, inner.nprobe * deeper / inner.nlist) if isinstance(inner, faiss.IndexIVF) else 1.0
        return probed * (CODE_NS if isinstance(inner, faiss.IndexIVFFastScan) else BIT_NS + ROW_NS * share)

    def search(
        self, queries: np.ndarray, n: int, deeper: float = 1.0, bits: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Queries float32 [Q, D] -> scores float32 [Q, n] and rows of the items int64 [Q, n], -1 where none was found.

        deeper: how many times the tuned depth. bits: the rows allowed, see serving/allowed.py; None allows all.
        """
        params = None
        if bits is not None:
            start = self.start >> 3
            selector = wrapped.IDSelectorBitmap(bits[start : start + (self.size + 7 >> 3)])
            params = self._params(deeper, selector)
        elif deeper > 1.0:
            params = self._params(deeper, None)
        scores, rows = self.index.search(queries, n, params=params)
        if self.start:
            rows[rows >= 0] += self.start
        return scores, rows

    def _selects(self) -> bool:
        """Whether the index heeds a selector; some kinds refuse one."""
        query = np.zeros((1, self.index.d), np.float32)
        try:
            _, rows = self.index.search(query, 1, params=self._params(1.0, wrapped.IDSelectorRange(0, 0)))
        except RuntimeError:
            return False
        return bool(rows[0, 0] < 0)


def _innermost(index: faiss.Index) -> faiss.Index:
    """The index that searches, inside what transforms its input or refines its output."""
    index = faiss.downcast_index(index)
    while isinstance(index, faiss.IndexPreTransform | faiss.IndexRefine):
        inner = index.index if isinstance(index, faiss.IndexPreTransform) else index.base_index
        index = faiss.downcast_index(inner)
    return index


def _params(index: faiss.Index) -> Params:
    """How to parametrise a search, by the kind of the index."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        factor, base = index.k_factor, _params(index.base_index)
        return lambda deeper, selector: wrapped.IndexRefineSearchParameters(
            k_factor=factor, base_index_params=base(deeper, selector)
        )
    if isinstance(index, faiss.IndexPreTransform):
        return _params(index.index)  # it hands them on
    if isinstance(index, faiss.IndexIVF):
        return lambda deeper, selector: wrapped.SearchParametersIVF(
            sel=selector, nprobe=min(index.nlist, int(np.ceil(index.nprobe * deeper)))
        )
    if isinstance(index, faiss.IndexHNSW):
        return lambda deeper, selector: wrapped.SearchParametersHNSW(
            sel=selector, efSearch=min(index.ntotal, int(np.ceil(index.hnsw.efSearch * deeper)))
        )
    return lambda _, selector: None if selector is None else wrapped.SearchParameters(sel=selector)
