"""The FAISS index over the item vectors, built from a factory string: whole, or in shards."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from pipeline.config import ExportConfig
from pipeline.errors import ConfigError
from pipeline.progress import bar

CURE = "Cure: a factory string that FAISS knows, with fewer lists than items; or `auto`"
ADD_BATCH = 65_536
FLAT_ITEMS, LISTED_ITEMS = 100_000, 10_000_000
"""Up to so many items `auto` takes an exact index; inverted lists of four bits a number; of eight bits beyond."""

HALVED, HALVES = 1 << 24, "index/halves.faiss"
"""From so many bytes of vectors on half as many are scanned sooner; fewer lie in a cache."""


def factory(settings: ExportConfig, items: int, dimension: int) -> str:
    """The FAISS factory string that `export.index` stands for, for so many item vectors of this dimension."""
    if settings.index != "auto":
        return settings.index
    if items <= FLAT_ITEMS:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(items)))
    if items > LISTED_ITEMS:
        return f"IVF{lists},SQ8"
    # Codes of four bits are scored by table look-ups within registers: the fastest there is, but not for GPUs.
    return f"IVF{lists},{'Flat' if settings.gpu else f'PQ{dimension}x4fsr'}"


def build(vectors: np.ndarray, settings: ExportConfig) -> list[tuple[faiss.Index, int]]:
    """Train and fill inner-product indexes over float32 [N, D], each with the row at which it starts.

    Raises ConfigError when FAISS refuses the factory string, or has no GPU and should use one.
    """
    shards = math.ceil(len(vectors) / settings.shard_items)
    # Equal shards, each from a multiple of 8 on, so that serving can cut bitmaps into bytes.
    size = 8 * math.ceil(len(vectors) / shards / 8)
    starts = range(0, len(vectors), size)
    string = factory(settings, min(size, len(vectors)), vectors.shape[1])
    with all_cores():
        return [(_build(vectors[start : start + size], string, settings.gpu), start) for start in starts]


def write(shards: list[tuple[faiss.Index, int]], vectors: np.ndarray, directory: Path) -> dict[str, Any]:
    """Write the shards, and copies that are scanned sooner, under directory/index -> what bundle.json says of them."""
    (directory / "index").mkdir()
    files = [(f"index/{number}.faiss", start) for number, (_, start) in enumerate(shards)]
    for (file, _), (index, _) in zip(files, shards, strict=True):
        faiss.write_index(index, str(directory / file))
    settings: dict[str, Any] = {"shards": files}
    if vectors.nbytes >= HALVED and all(
        isinstance(faiss.downcast_index(index), faiss.IndexFlat) for index, _ in shards
    ):
        halves, error = halved(vectors)
        if math.isfinite(error):
            faiss.write_index(halves, str(directory / HALVES))
            settings["halves"] = {"file": HALVES, "error": error}
    return settings


def halved(vectors: np.ndarray) -> tuple[faiss.Index, float]:
    """Float32 [N, D] in half precision, and the bound of the error that serving/halves.py wants to know.

    |<q, v> - <q, c>| <= |q| |v - c| of a vector v and its copy c (Cauchy-Schwarz). Rounding to float32 adds at most
    D 2^-24 |q| |v| to each of the two (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5).
    """
    dimension = vectors.shape[1]
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:1])
    error = length = 0.0
    for start in range(0, len(vectors), ADD_BATCH):
        block = vectors[start : start + ADD_BATCH]
        index.add(block)
        copies = index.reconstruct_n(start, len(block))
        error = np.maximum(error, np.linalg.norm(block.astype(np.float64) - copies, axis=1).max())
        length = np.maximum(length, np.linalg.norm(block.astype(np.float64), axis=1).max())
    # A copy is no longer than its vector and the error; a hundredth is for the query's length, itself rounded.
    return index, float(1.01 * (error + dimension * 2.0**-23 * (length + error)))


def _build(vectors: np.ndarray, string: str, gpu: bool) -> faiss.Index:
    try:
        index = faiss.index_factory(vectors.shape[1], string, faiss.METRIC_INNER_PRODUCT)
        index = _to_gpu(index) if gpu else index
        index.train(vectors)
        starts = range(0, len(vectors), ADD_BATCH)
        for start in bar(starts, desc=f"index {string}", unit="batch"):
            index.add(vectors[start : start + ADD_BATCH])
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        what = f"FAISS cannot build {string!r} over {len(vectors)} items"
        raise ConfigError(f"`export.index`: {what}: {reason}. {CURE}") from None
    return faiss.index_gpu_to_cpu(index) if gpu else index


def _to_gpu(index: faiss.Index) -> Any:
    if not faiss.get_num_gpus():
        raise ConfigError(
            "`export.gpu`: this FAISS finds no GPU. Cure: a FAISS built for one (faiss-gpu), or `export.gpu: false`"
        )
    return faiss.index_cpu_to_all_gpus(index)


@contextmanager
def all_cores() -> Iterator[None]:
    """Let FAISS use every core; a server gives it one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
