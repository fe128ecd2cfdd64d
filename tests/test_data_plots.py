"""pipeline/data_plots.py: every plot draws, whatever the data; warnings (of matplotlib too) are errors."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline import data_plots
from pipeline.data_figures import popularity, spread

PNG = b"\x89PNG\r\n\x1a\n"


def days(number: int) -> dict[str, int]:
    return {str(np.datetime64("2024-01-01") + n): 10 + n % 7 for n in range(number)}


@pytest.mark.parametrize(
    "found",
    [days(1), days(2), days(60), days(500), {"1999-12-31": 1, "2026-01-01": 3}],
    ids=["one", "two", "two months", "long", "far apart"],
)
def test_events_a_day(tmp_path: Path, found):
    data_plots.events_a_day(tmp_path / "x.png", found)
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("counts", [[1], [7, 7], [900, 30, 1], list(range(3000, 0, -1))])
def test_popularity(tmp_path, counts):
    data_plots.popularity(tmp_path / "x.png", popularity(np.array(counts)))
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("lengths", [[1], [3, 3, 900], list(range(1, 40_000, 9))])
def test_spreads(tmp_path, lengths):
    content = {"unit": "events", **spread(Counter(lengths))}
    data_plots.spreads(tmp_path / "x.png", {"Users": content, "Sessions": content})
    data_plots.spreads(tmp_path / "y.png", {"Users": content})
    assert (tmp_path / "x.png").stat().st_size > (tmp_path / "y.png").stat().st_size


@pytest.mark.parametrize("size", [1, 2, 5, 16, 24])
def test_heat_map(tmp_path, size):
    root = np.random.default_rng(size).random((size, size))
    found = {"fields": [f"a_rather_long_field_name_{n}" for n in range(size)], "matrix": (root @ root.T).tolist()}
    data_plots.heat_map(tmp_path / "x.png", found)
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


def test_fields_without_any_information_can_be_drawn(tmp_path):
    data_plots.heat_map(tmp_path / "x.png", {"fields": ["item_id", "same"], "matrix": [[1.0, 0.0], [0.0, 0.0]]})
    assert (tmp_path / "x.png").exists()


def test_what_has_no_figures_has_no_plot(tmp_path):
    figures = {
        "events_a_day": None,
        "popularity": {"trained": 0, "curve": []},
        "histories": {"count": 0, "bins": []},
        "sessions": None,
        "mutual_information": None,
    }
    assert data_plots.write(tmp_path, figures) == []
    assert list(tmp_path.iterdir()) == []
    assert data_plots.write(tmp_path, {**figures, "events_a_day": days(3)}) == ["events.png"]
