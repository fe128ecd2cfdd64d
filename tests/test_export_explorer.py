"""What export adds to a bundle for people: lists of neighbours from `prepare`, and the map."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from serving_fixture import ITEMS, TITLE_NEIGHBOURS, config, make_bundle, near, sources, write_inputs

from pipeline import export_map
from pipeline.artifacts import Artifact, Spec, create, open_artifact
from pipeline.errors import ArtifactError
from pipeline.export_neighbours import open_lists, session_lists, title_lists
from serving.bundle import Bundle
from serving.item_map import ITEMS as MAP_ITEMS


@pytest.fixture(scope="module")
def lists(serving_dir: Path, bundle_path: Path) -> dict[str, Artifact]:
    return dict(sources(serving_dir).neighbours)


@pytest.mark.parametrize("most", [1, 3, 20])
def test_lists_keep_the_best_in_their_order(serving_dir: Path, lists: dict[str, Artifact], most: int) -> None:
    items = sources(serving_dir).vocabularies.items
    for kind, read in (("session", session_lists), ("title", title_lists)):
        neighbours, scores = read(lists[kind], items, most)
        width = most if kind == "session" else min(most, TITLE_NEIGHBOURS)
        assert neighbours.shape == scores.shape == (ITEMS, width)
        for index in range(1, ITEMS + 1):
            expected = near(index)[kind][:width]
            assert neighbours[index - 1].tolist() == expected + [0] * (width - len(expected))
        assert (scores[neighbours == 0] == 0).all()
        assert (scores[neighbours > 0] > 0).all()


def test_lists_and_map_are_left_out_where_they_are_not_asked_for(serving_dir: Path, bundle_path: Path) -> None:
    bundle = Bundle.open(make_bundle(serving_dir, "plain", neighbours=0, map_items=0).path)
    assert (bundle.neighbours, bundle.map) == ({}, None)


def test_kinds_that_prepare_has_not_made_are_left_out(tmp_path: Path) -> None:
    settings = config(tmp_path)
    write_inputs(settings)
    known = open_artifact(settings.prepared_dir("user_sequences"), "user_sequences", 1)
    shutil.rmtree(settings.prepared_dir("title_neighbours"))
    assert list(open_lists(settings, known)) == ["session"]


def test_sessions_of_other_sequences_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path)
    write_inputs(settings)
    with create(tmp_path / "other", Spec("user_sequences", 1)) as draft:
        (draft.dir / "part").write_text("another log")
    other = open_artifact(tmp_path / "other", "user_sequences", 1)
    with pytest.raises(ArtifactError, match=r"session_cooccurrence was made for another vocabulary\. Cure"):
        open_lists(settings, other)


def test_titles_of_other_items_are_refused(serving_dir: Path, lists: dict[str, Artifact]) -> None:
    items = sources(serving_dir).vocabularies.items
    fewer = type(items)(items.values[1:], items.counts[1:])
    with pytest.raises(ArtifactError, match="title_neighbours was made for another vocabulary"):
        title_lists(lists["title"], fewer, 3)


def test_map_is_a_sample_of_the_index(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert bundle.map is not None
    assert bundle.map.items.shape == (60,)
    assert set(bundle.map.items) <= set(bundle.item_indices)
    assert bundle.map.method == "t-SNE"


def test_sample_prefers_popular_items_and_is_always_the_same() -> None:
    counts = np.where(np.arange(2000) < 200, 1000, 0)
    chosen = export_map.draw_sample(counts, 250)
    assert len(np.unique(chosen)) == 250
    assert (chosen < 200).sum() > 190
    np.testing.assert_array_equal(chosen, export_map.draw_sample(counts, 250))
    np.testing.assert_array_equal(export_map.draw_sample(counts, 2000), np.arange(2000))


def test_map_keeps_planted_groups_together() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(4, 16))
    group = np.arange(120) % 4
    vectors = (centres[group] + 0.1 * rng.normal(size=(120, 16))) * rng.uniform(0.5, 2.0, (120, 1))
    points = export_map.project(vectors.astype(np.float32))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 10 * np.eye(120)
    assert (group[distances.argmin(axis=1)] == group).all()
    assert np.abs(points).max() == 1.0


def test_map_of_items_that_are_all_the_same_is_finite() -> None:
    assert np.isfinite(export_map.project(np.ones((12, 4), np.float32))).all()


def test_catalogue_of_a_few_items_has_no_map() -> None:
    assert not export_map.possible(np.ones((9, 4), np.float32))
    assert not export_map.possible(np.ones((50, 1), np.float32))


def test_bundle_names_what_it_holds(bundle_path: Path) -> None:
    (run,) = bundle_path.glob("run=*")
    told = json.loads((run / "bundle.json").read_text())
    assert (told["neighbours"], told["map"]) == (["session", "title"], "t-SNE")
    assert (run / MAP_ITEMS).is_file()
