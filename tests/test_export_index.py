"""The index of a bundle: which kind, how it is cut, and that the recall it claims is the recall it has."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from pipeline import export_index, export_plot, export_recall
from pipeline.config import ExportConfig
from pipeline.errors import ArtifactError, ConfigError
from pipeline.export_recall import Trial, Tuned

N, D = 1000, 8


def clustered(interests: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [N, D] and queries [60, K, D]."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N, D)).astype(np.float32)
    return vectors, rng.standard_normal((60, interests, D)).astype(np.float32)


def make_trial(kind: str, k: int, interests: int = 1, shard_items: int = N) -> Trial:
    vectors, queries = clustered(interests)
    shards = export_index.build(vectors, ExportConfig(index=kind, shard_items=shard_items))
    return Trial(shards, vectors, np.linalg.norm(vectors, axis=1), queries, k)


def overlap(trial: Trial, tuned: Tuned) -> float:
    """Recall as the overlap of sets with a sort of all scores."""
    index = trial.index(tuned.depth, tuned.refine)
    shares = []
    for query in trial.queries[1::2]:
        (answer,) = index.ask(query[np.newaxis], trial.k)
        found = index.merge(query, *answer, trial.k).rows
        best = np.argsort(-(trial.vectors.astype(np.float64) @ query.T).max(axis=1))[: trial.k]
        shares.append(len(np.intersect1d(found, best)) / trial.k)
    return float(np.mean(shares))


@pytest.mark.parametrize(
    ("kind", "interests"), [("Flat", 3), ("IVF32,Flat", 1), ("IVF32,Flat", 3), ("HNSW8", 1), ("PQ4x4", 3), ("NSG16", 1)]
)
def test_measured_recall_is_the_overlap_with_brute_force(kind: str, interests: int) -> None:
    trial = make_trial(kind, 20, interests)
    tuned = export_recall.tune(trial, kind, 0.6)
    assert tuned.recall == pytest.approx(overlap(trial, tuned), abs=0.005)  # near ties count as found
    assert (tuned.k, tuned.queries) == (20, 30)


@pytest.mark.parametrize(("kind", "name"), [("IVF32,Flat", "nprobe"), ("HNSW8", "efSearch")])
def test_search_goes_deeper_until_the_target_is_met(kind: str, name: str) -> None:
    trial = make_trial(kind, 20)
    loose, tight = (export_recall.tune(trial, kind, target) for target in (0.5, 0.99))
    assert tight.depth[name] >= loose.depth[name]
    assert tight.recall >= 0.99
    depths = [point.depth[name] for point in tight.points]
    assert depths == sorted(set(depths))


@pytest.mark.parametrize("kind", ["PQ8x4", "SQ4", "PCA7,IVF32,Flat", "IVF32,PQ8x4fsr"])
def test_approximate_scores_are_refined_until_the_target_is_met(kind: str) -> None:
    tuned = export_recall.tune(make_trial(kind, 20), kind, 0.97)
    assert tuned.refine > 1.0
    assert tuned.points[-1].recall >= 0.97
    assert tuned.recall >= 0.94


@pytest.mark.parametrize("kind", ["Flat", "IVF32,Flat", "HNSW8", "IVF32,PQ4x4,RFlat"])
def test_exact_scores_are_not_computed_again(kind: str) -> None:
    assert export_recall.tune(make_trial(kind, 20), kind, 0.9).refine == 0.0


def test_shards_find_what_one_index_finds() -> None:
    sharded, whole = make_trial("Flat", 50, shard_items=300), make_trial("Flat", 50)
    assert [(int(index.ntotal), start) for index, start in sharded.shards] == [
        (256, 0),
        (256, 256),
        (256, 512),
        (232, 768),
    ]
    a, b = sharded.index({}, 0.0), whole.index({}, 0.0)
    for query in sharded.queries[:10]:
        assert a.search(query, 50).rows.tolist() == b.search(query, 50).rows.tolist()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4], ids=["below half precision", "of length 3", "long"])
def test_no_product_of_halves_is_farther_off_than_said(scale: float) -> None:
    vectors, queries = clustered()
    vectors, queries = vectors * np.float32(scale), queries[:, 0]
    halves, error = export_index.halved(vectors)
    scores, rows = halves.search(queries, N)
    exact = queries.astype(np.float64) @ vectors.astype(np.float64).T
    off = np.abs(scores - np.take_along_axis(exact, rows, axis=1)).max(axis=1) / np.linalg.norm(queries, axis=1)
    assert 0.0 < off.max() <= error
    assert error <= 1e-3 * np.linalg.norm(vectors, axis=1).max() + 1e-6  # and it says something


@pytest.mark.parametrize(
    ("kind", "from_bytes", "scale", "written"),
    [
        ("Flat", 4 * N * D, 1.0, True),
        ("Flat", 4 * N * D + 1, 1.0, False),
        ("IVF32,Flat", 0, 1.0, False),
        ("Flat", 0, 1e5, False),
    ],
    ids=["large", "small", "of another kind", "beyond half precision"],
)
def test_halves_are_written_of_a_large_flat_index(
    kind: str, from_bytes: int, scale: float, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_index, "HALVED", from_bytes)
    vectors = clustered()[0] * np.float32(scale)
    settings = export_index.write(export_index.build(vectors, ExportConfig(index=kind)), vectors, tmp_path)
    assert ("halves" in settings, (tmp_path / export_index.HALVES).exists()) == (written, written)


def test_recall_under_the_target_is_refused() -> None:
    tuned = export_recall.tune(make_trial("PQ1x1", 5), "PQ1x1", 0.99)
    with pytest.raises(ArtifactError, match=r"'PQ1x1' has recall@5 0\.\d+, under the target 0\.99"):
        export_recall.check(tuned)


def test_items_tied_with_the_last_one_count_as_found() -> None:
    vectors = np.ones((50, 4), np.float32)
    shards = export_index.build(vectors, ExportConfig(index="Flat"))
    trial = Trial(shards, vectors, np.full(50, 2, np.float32), vectors[:4, np.newaxis], 10)
    assert export_recall.tune(trial, "Flat", 0.99).recall == 1.0


def test_recall_is_of_all_items_when_k_is_beyond_them() -> None:
    assert make_trial("Flat", 5000).k == N


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        (1, "Flat"),
        (100_000, "Flat"),
        (100_001, "IVF1024,PQ64x4fsr"),
        (1_000_000, "IVF4096,PQ64x4fsr"),
        (20_000_000, "IVF16384,SQ8"),
    ],
)
def test_default_kind_by_the_size_of_the_catalogue(items: int, kind: str) -> None:
    assert export_index.factory(ExportConfig(), items, 64) == kind
    assert export_index.factory(ExportConfig(index="HNSW32"), items, 64) == "HNSW32"


def test_default_kind_can_be_built_on_a_gpu() -> None:
    assert export_index.factory(ExportConfig(gpu=True), 1_000_000, 64) == "IVF4096,Flat"


@pytest.mark.parametrize("kind", ["NoSuchIndex", "IVF4000,Flat", "IDMap,Flat"])
def test_index_that_faiss_cannot_build_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"`export\.index`: FAISS cannot build '{kind}' over 300 items: .* Cure: "):
        export_index.build(clustered()[0][:300], ExportConfig(index=kind))


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`export\.gpu`: this FAISS finds no GPU"):
        export_index.build(clustered()[0], ExportConfig(gpu=True))


def test_faiss_threads_are_given_back() -> None:
    before = faiss.omp_get_max_threads()
    export_recall.tune(make_trial("Flat", 5), "Flat", 0.9)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize("kind", ["Flat", "IVF32,SQ8"])
def test_curve_is_drawn(tmp_path: Path, kind: str) -> None:
    export_plot.draw(export_recall.tune(make_trial(kind, 20), kind, 0.99), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
