"""benchmarks/serve_peers.py: a peer's index answers like ours, and the verdict follows from the figures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import faiss
import numpy as np
import pytest

from benchmarks import peer_librecommender, peer_server, peer_tune
from benchmarks.peer_indexes import LEAVES, Opened, PeerShard, deepen_ours, depths_of_ours
from benchmarks.raw_loop import users_of
from benchmarks.serve_peers import beaten_by
from pipeline.storage import locate
from serving.bundle import Bundle
from serving.index import ItemIndex
from serving.metrics import Metrics
from serving.reload import Reloader
from serving.served import Served
from serving.shard import Shard
from serving.shared_numbers import SharedNumbers


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


def test_index_of_a_peer_leaves_out_what_ours_does(bundle: Bundle) -> None:
    vectors = bundle.index.vectors

    def search(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        scores = queries @ vectors.T
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(scores, rows, axis=1), rows

    theirs = ItemIndex([PeerShard(Opened(search, lambda _: None), vectors)], vectors, bundle.index.norms)
    for query in peer_tune.user_vectors(bundle, users_of(bundle)[:5]):
        for excluded in (np.empty(0, np.int64), np.arange(30)):
            found, ours = (index.search(query[np.newaxis], 20, excluded) for index in (theirs, bundle.index))
            np.testing.assert_allclose(found.scores, ours.scores, atol=1e-5)
            assert not set(found.rows.tolist()) & set(excluded.tolist())


def test_server_answers_from_the_index_of_the_peer(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served, "open", Served.open)  # what `install` replaces is put back
    monkeypatch.setattr(peer_server, "use_environment", lambda: None)
    opened = Opened(lambda queries, n: (np.ones((1, n), np.float32), np.arange(n)[np.newaxis]), lambda _: None)
    monkeypatch.setitem(peer_server.PEERS, "made", SimpleNamespace(open=lambda *_: opened))
    peer_server.install("made", 1, bundle_path)
    numbers = SharedNumbers.make(1, Metrics.columns([]))
    reloader = Reloader(locate(str(bundle_path)), Metrics(SharedNumbers(numbers, 1, Metrics.columns([])), 0, []), "")
    assert isinstance(reloader.served.retriever.bundle.index.shards[0], PeerShard)
    numbers.unlink()


def test_our_index_with_lists_is_searched_at_the_depth_that_is_set(bundle: Bundle) -> None:
    vectors = np.ascontiguousarray(bundle.index.vectors)
    listed = faiss.index_factory(vectors.shape[1], "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
    cast(Any, listed).train(vectors)
    cast(Any, listed).add(vectors)
    index = ItemIndex([Shard(listed, depth={"nprobe": 8})], vectors, bundle.index.norms)
    assert (depths_of_ours(index), depths_of_ours(bundle.index)) == (LEAVES, (0,))
    deepen_ours(index, 2)
    assert faiss.downcast_index(index.shards[0].index).nprobe == 2
    deepen_ours(bundle.index, 0)


def test_depth_is_the_first_that_suffices() -> None:
    wanted, depth = np.arange(8).reshape(1, 8), [0]
    opened = Opened(
        lambda queries, n: (np.zeros((len(queries), n)), np.where(np.arange(n) < depth[0], np.arange(n), -1)[None]),
        lambda deep: depth.__setitem__(0, deep),
    )
    queries = np.zeros((1, 4), np.float32)
    assert peer_tune.tuned(opened, (2, 4, 6, 8), queries, wanted, 0.75) | {"index_us": 0} == {
        "depth": 6,
        "recall": 0.75,
        "index_us": 0,
    }
    assert peer_tune.tuned(opened, (2, 4), queries, wanted, 0.75)["recall"] == 0.5


def test_index_of_librecommender_with_all_lists_is_exact(bundle: Bundle) -> None:
    queries = peer_tune.user_vectors(bundle, users_of(bundle)[:10])
    index = peer_librecommender.index_of(bundle, peer_librecommender.LISTS)
    exact = np.stack([bundle.index.search(query[np.newaxis], 10).rows for query in queries])
    assert peer_tune.recall(index.search(queries, 10)[1], exact) == 1.0


@pytest.mark.parametrize(("cost", "recall", "beaten"), [(90.0, 0.99, True), (110.0, 0.99, False), (90.0, 0.9, False)])
def test_verdict_is_by_cost_at_the_same_recall(cost: float, recall: float, beaten: bool) -> None:
    figures = {"ours": {"c64_cpu_us": 100.0, "recall": 0.992}, "theirs": {"c64_cpu_us": cost, "recall": recall}}
    assert beaten_by(figures) == (["theirs"] if beaten else [])
