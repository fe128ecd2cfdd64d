"""hnswlib, usearch, ScaNN and Qdrant's engine as indexes of item vectors: built once, kept in a folder, tuned by depth.

They come from an environment of their own (`ENVIRONMENT`), behind the packages of this one.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from benchmarks.environment import Environment
from benchmarks.measure import ROOT
from serving.index import ItemIndex
from serving.shard import Shard

PINS = ["hnswlib==0.8.0", "usearch==2.26.6", "scann==1.4.2", "qdrant-edge-py==0.9.0"]
ENVIRONMENT = Environment(ROOT / "work" / "serve_peers" / "indexes", PINS)
LINKS, BUILD = 16, 128
"""Of every graph: links per item, and candidates looked at while building."""
REORDERED = 10
"""How many times more items than wanted ScaNN scores exactly. With 4 a recall of 0.99 is out of reach for a million."""
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Queries float32 [Q, D] and n -> scores float32 [Q, n] and rows int64 [Q, n], best first, by inner product."""


class Opened(NamedTuple):
    """search: at the depth last set by `deepen`."""

    search: Search
    deepen: Callable[[int], None]


class Peer(NamedTuple):
    """build: vectors into a folder. open: that folder. depths: to try until recall is reached, ascending."""

    build: Callable[[np.ndarray, Path], None]
    open: Callable[[Path, int, int], Opened]
    depths: tuple[int, ...]


def use_environment() -> None:
    """Make the peers importable, after what is installed here. Raises CalledProcessError when pip cannot install."""
    ENVIRONMENT.install()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(ENVIRONMENT.folder / "lib" / version / "site-packages"))
    modules: dict[str, Any] = sys.modules
    modules["tensorflow"] = None  # ScaNN would load its operations for a TensorFlow other than the one that is here


def _build_hnswlib(vectors: np.ndarray, folder: Path) -> None:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=LINKS, ef_construction=BUILD)
    index.add_items(vectors)
    index.save_index(str(folder / "index"))


def _open_hnswlib(folder: Path, rows: int, dimension: int) -> Opened:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=dimension)
    index.load_index(str(folder / "index"))
    index.set_num_threads(1)
    depth = [0]

    def search(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        index.set_ef(max(depth[0], n))  # with less it raises
        labels, distances = index.knn_query(queries, k=n)
        return 1 - distances, labels.astype(np.int64)

    return Opened(search, lambda deep: depth.__setitem__(0, deep))


def _build_usearch(vectors: np.ndarray, folder: Path) -> None:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=LINKS, expansion_add=BUILD)
    index.add(np.arange(len(vectors)), vectors)
    index.save(str(folder / "index"))


def _open_usearch(folder: Path, rows: int, dimension: int) -> Opened:
    from usearch.index import Index

    index = Index.restore(str(folder / "index"))

    def search(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        found = index.search(queries, n, threads=1)
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return (1 - distances).astype(np.float32), keys.astype(np.int64)

    return Opened(search, lambda deep: setattr(index, "expansion_search", deep))


def _build_scann(vectors: np.ndarray, folder: Path) -> None:
    from scann import scann_ops_pybind as scann

    leaves = int(4 * len(vectors) ** 0.5)
    builder = scann.builder(vectors, 100, "dot_product").tree(
        num_leaves=leaves, num_leaves_to_search=leaves // 10, training_sample_size=len(vectors)
    )
    searcher = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(1000).build()
    searcher.serialize(str(folder))


def _open_scann(folder: Path, rows: int, dimension: int) -> Opened:
    from scann import scann_ops_pybind as scann

    searcher = scann.load_searcher(str(folder))
    depth = [0]

    def search(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        found, scores = searcher.search_batched(
            queries, final_num_neighbors=n, pre_reorder_num_neighbors=REORDERED * n, leaves_to_search=depth[0]
        )
        return scores, found.astype(np.int64)

    return Opened(search, lambda deep: depth.__setitem__(0, deep))


def _qdrant_settings(dimension: int) -> Any:
    import qdrant_edge as qdrant

    graph = qdrant.HnswIndexConfig(m=LINKS, ef_construct=BUILD, full_scan_threshold=10)
    params = qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Dot, hnsw_config=graph)
    optimizers = qdrant.EdgeOptimizersConfig(indexing_threshold=10, default_segment_number=1)
    return qdrant.EdgeConfig(vectors=params, hnsw_config=graph, optimizers=optimizers, max_search_threads=1)


def _build_qdrant(vectors: np.ndarray, folder: Path) -> None:
    import qdrant_edge as qdrant

    shard = qdrant.EdgeShard.create(str(folder), _qdrant_settings(vectors.shape[1]))
    for start in range(0, len(vectors), 10_000):
        block = vectors[start : start + 10_000].tolist()
        points = [qdrant.Point(start + i, vector, None) for i, vector in enumerate(block)]
        shard.update(qdrant.UpdateOperation.upsert_points(points))
    while shard.optimize():
        pass
    shard.flush()
    shard.close()


def _open_qdrant(folder: Path, rows: int, dimension: int) -> Opened:
    import qdrant_edge as qdrant

    shard, depth = qdrant.EdgeShard.load(str(folder)), [0]

    def search(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        params = qdrant.SearchParams(hnsw_ef=max(depth[0], n))
        asked = [
            qdrant.QueryRequest(limit=n, query=qdrant.Query.Nearest(vector), params=params)
            for vector in queries.tolist()
        ]
        found = shard.query_batch(qdrant.QueryBatchRequest(asked))
        scores = np.array([[point.score for point in points] for points in found], np.float32)
        return scores, np.array([[point.id for point in points] for points in found], np.int64)

    return Opened(search, lambda deep: depth.__setitem__(0, deep))


EFS, LEAVES = (100, 150, 200, 300, 450, 700, 1000, 1500), (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
PEERS = {
    "hnswlib": Peer(_build_hnswlib, _open_hnswlib, EFS),
    "usearch": Peer(_build_usearch, _open_usearch, EFS),
    "scann": Peer(_build_scann, _open_scann, LEAVES),
    "qdrant": Peer(_build_qdrant, _open_qdrant, EFS),
}


def depths_of_ours(index: ItemIndex) -> tuple[int, ...]:
    """The depths to try of a bundle's index: of one with lists, how many to look into; else 0, as it is."""
    lists = all(faiss.try_extract_index_ivf(shard.index) is not None for shard in index.shards)
    return LEAVES if lists else (0,)


def deepen_ours(index: ItemIndex, depth: int) -> None:
    """Set a depth that `depths_of_ours` names."""
    for shard in index.shards if depth else ():
        faiss.ParameterSpace().set_index_parameter(shard.index, "nprobe", depth)


class PeerShard(Shard):
    """A peer's index where one of FAISS would be, so that everything around it stays the same. It knows no filters."""

    def __init__(self, opened: Opened, vectors: np.ndarray) -> None:
        # FAISS's part is to say of which dimension the vectors are; nothing is in it.
        self.index, self.start, self.size, self.flat = faiss.IndexFlatIP(vectors.shape[1]), 0, len(vectors), False
        self._search = opened.search

    def filtered_ns(self, share: float, deeper: float) -> float:
        """Scoring what is allowed is always better than asking an index that cannot select."""
        return float("inf")

    def search(
        self, queries: np.ndarray, n: int, deeper: float = 1.0, bits: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Shard.search; `bits` never comes, see filtered_ns."""
        return self._search(queries, n)
