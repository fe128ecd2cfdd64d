"""The item vectors in two dimensions, for people to look at: t-SNE of a sample of the catalogue."""

import numpy as np
from sklearn.manifold import TSNE

METHOD = "t-SNE"
PERPLEXITY = 30.0
ITERATIONS, ANGLE = 500, 0.7
"""Twice the iterations at an angle of 0.5 keep no more neighbours, and take 2.5 times as long."""
FEWEST = 10
"""Items; fewer make no map."""
JITTER = 1e-5
"""Keeps items with the same vector apart, and gives a collapsed model axes."""


def draw_sample(counts: np.ndarray, most: int) -> np.ndarray:
    """At most `most` items, popular ones more likely: int64 [M], ascending places in `counts`, int [N] train events.

    Always the same for the same counts.
    """
    if len(counts) <= most:
        return np.arange(len(counts))
    weights = counts + 1.0
    chosen = np.random.default_rng(0).choice(len(counts), most, replace=False, p=weights / weights.sum())
    return np.sort(chosen)


def project(vectors: np.ndarray) -> np.ndarray:
    """Vectors float32 [M, D] -> points float32 [M, 2] in -1 .. 1, near where the cosine is high.

    van der Maaten and Hinton 2008, by scikit-learn (Barnes-Hut) from the two principal components on. Neighbourhoods
    mean something; distances between far groups, and their sizes, do not.
    """
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit = vectors / lengths + np.random.default_rng(0).normal(scale=JITTER, size=vectors.shape)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    method = TSNE(init="pca", perplexity=perplexity, max_iter=ITERATIONS, angle=ANGLE, random_state=0)
    points = method.fit_transform(unit.astype(np.float32))
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    return (points / np.abs(points).max()).astype(np.float32)


def possible(vectors: np.ndarray) -> bool:
    """Whether vectors [M, D] make a map."""
    return len(vectors) >= FEWEST and vectors.shape[1] >= 2
