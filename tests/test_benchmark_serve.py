"""benchmarks/serve.py: what it compares is the same work, and its verdict follows from its figures."""

import json
from pathlib import Path

import pytest

from benchmarks import raw_loop, serve, swaps
from pipeline.artifacts import roll_back
from serving.bundle import KIND, OLDER, VERSION, Bundle
from serving.retriever import Retriever


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


def test_raw_loop_finds_what_the_server_does_when_nothing_is_left_out(bundle: Bundle) -> None:
    users = raw_loop.users_of(bundle)
    for user, call in list(zip(users, raw_loop.raw(bundle, 20), strict=True))[:10]:
        query = raw_loop.Query(bundle.users.ids.decode([user])[0], k=20, exclude_seen=False)
        found = Retriever(bundle).recommend(query)
        answer = json.loads(call())
        assert answer["scores"] == pytest.approx(found.scores.tolist(), abs=1e-5)
        assert answer["items"] == bundle.items.ids.decode(found.items)


def test_engine_and_json_loops_answer_for_every_user(bundle: Bundle) -> None:
    engine, written = raw_loop.engine(bundle, 5), raw_loop.json_only(bundle, 5)
    assert len(engine) == len(written) == len(raw_loop.users_of(bundle))
    assert len(json.loads(written[3]())["items"]) == len(engine[3]().items) == 5


def test_times_of_a_loop_are_told(bundle: Bundle) -> None:
    figures = raw_loop.timed(raw_loop.raw(bundle, 5), 0.05)
    assert figures["per_second"] > 0
    assert figures["cpu_us"] > 0
    assert figures["p50_us"] > 0


@pytest.mark.parametrize(("speed", "share", "met"), [(0.9, 0.02, True), (0.7, 0.02, False), (0.9, 0.04, False)])
def test_verdict_follows_from_the_figures(
    capsys: pytest.CaptureFixture[str], speed: float, share: float, met: bool
) -> None:
    targets = {"speed": (">=", 0.8), "share": ("<=", 0.03)}
    assert serve.report({"speed": speed, "share": share, "beside": 7.0}, targets) is met
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"figures": {"speed": speed, "share": share, "beside": 7.0}, "met": met}


def test_bundle_to_swap_has_two_runs_that_both_serve(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swaps, "ROOT", tmp_path)
    assert bundle.artifact is not None
    path, _ = swaps.twice(bundle.artifact.path)
    runs = set()
    for _ in range(3):
        runs.add(roll_back(path, KIND, VERSION, OLDER).manifest["run"])
        Bundle.open(path)
    assert len(runs) == 2
