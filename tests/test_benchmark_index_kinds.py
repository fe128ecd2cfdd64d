"""benchmarks/index_kinds.py: it measures what it is given, and the verdict follows from the figures."""

import json
from pathlib import Path

import pytest

from benchmarks import index_kinds


def test_each_kind_is_tuned_and_timed(bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["Flat", "IVF4,Flat"]
    index_kinds.main([str(bundle_path), "--kinds", *kinds, "--k", "20", "--target", "0.9"])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(printed["kinds"]) == kinds
    for figures in printed["kinds"].values():
        assert figures["recall"] >= 0.9
        assert min(figures["alone_us"], figures["together_us"], figures["mb"]) > 0
    assert printed["kinds"]["IVF4,Flat"]["nprobe"] >= 1


@pytest.mark.parametrize(
    ("first", "other", "met"),
    [
        ((0.99, 10, 10), (0.99, 20, 20), True),
        ((0.99, 10, 10), (0.99, 20, 8), False),
        ((0.99, 10, 10), (0.80, 1, 1), True),
        ((0.98, 10, 10), (0.80, 20, 20), False),
    ],
)
def test_first_kind_must_reach_the_target_and_be_the_fastest_that_does(
    first: tuple[float, float, float], other: tuple[float, float, float], met: bool
) -> None:
    names = ("recall", "alone_us", "together_us")
    figures = [dict(zip(names, each, strict=True)) for each in (first, other)]
    assert index_kinds.best_first(figures, 0.99) is met
