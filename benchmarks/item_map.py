"""How much of the item vectors a map keeps: t-SNE, as export draws it, beside the two principal components.

    python -m benchmarks.item_map work/ml-1m/bundles/ml-1m --check

For each way the CPU seconds on one core, and the share of the 10 items nearest by cosine that are among the 10 nearest
on the map. `--check` exits 1 unless t-SNE keeps twice the share of the principal components.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from benchmarks.measure import on_one_thread
from pipeline import export_map
from serving.bundle import Bundle

NEAREST, TARGET = 10, 2.0


def principal(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors float32 [M, D] on their two principal components, [M, 2]."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(centred @ axes[:, -2:])


def nearest(points: np.ndarray) -> np.ndarray:
    """The NEAREST rows of each, itself among them or not: int64 [M, NEAREST + 1]."""
    return faiss.knn(points, points, NEAREST + 1)[1]


def kept(vectors: np.ndarray, points: np.ndarray) -> float:
    """The share of the nearest vectors that are nearest on the map."""
    shares = [
        len(set(a) & set(b) - {row}) / NEAREST
        for row, (a, b) in enumerate(zip(nearest(vectors).tolist(), nearest(points).tolist(), strict=True))
    ]
    return float(np.mean(shares))


def measure(vectors: np.ndarray, draw: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """CPU seconds, and the share kept."""
    started = time.process_time()
    points = draw(vectors)
    seconds = time.process_time() - started
    return {"seconds": round(seconds, 2), "kept": round(kept(vectors, points), 3)}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--items", type=int, default=5000, help="as export.map_items")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    arguments = parser.parse_args(argv)
    bundle = Bundle.open(arguments.bundle)
    places = export_map.draw_sample(bundle.items.counts[bundle.item_indices - 1], arguments.items)
    vectors = bundle.index.vectors[places] / np.maximum(bundle.index.norms[places, None], 1e-12)
    ways = {"principal components": principal, "t-SNE": export_map.project}
    figures = {name: measure(vectors, draw) for name, draw in ways.items()}
    print(f"{'map of ' + str(len(places)) + ' items':<24} {'CPU s':>8} {f'nearest {NEAREST} kept':>16}")
    for name, each in figures.items():
        print(f"{name:<24} {each['seconds']:>8} {each['kept']:>16}")
    met = figures["t-SNE"]["kept"] >= TARGET * figures["principal components"]["kept"]
    print(json.dumps({"items": len(places), "ways": figures, "met": met}))
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    on_one_thread("benchmarks.item_map")
    sys.exit(main())
