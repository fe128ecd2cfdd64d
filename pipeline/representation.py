"""How well vectors are spread on the sphere: alignment and uniformity (Wang & Isola 2020). Pure numpy."""

import numpy as np


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """The mean squared distance of pairs that belong together; 0 when each pair is one point.

    E || x - y ||^2 with x, y scaled to length 1 (section 4.1, alpha = 2).

    Args: first, second: float [n, D], row i of both a pair, n > 0.
    """
    return float(np.square(_unit(first) - _unit(second)).sum(axis=1).mean())


def uniformity(vectors: np.ndarray) -> float:
    """How evenly vectors cover the sphere: 0 when all are one point, lower is more even.

    log E exp(-2 || x - y ||^2) over all pairs of different rows, scaled to length 1 (section 4.1, t = 2).

    Args: vectors: float [n, D], n > 1.
    """
    unit = _unit(vectors)
    distances = 2 - 2 * (unit @ unit.T)  # || x - y ||^2 of unit vectors, (n, n)
    count = len(unit)
    return float(np.log((np.exp(-2 * distances).sum() - np.exp(-2 * distances.diagonal()).sum()) / (count**2 - count)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
