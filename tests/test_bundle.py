"""Opening bundles: whole, truncated, altered, of another version, in a fresh process."""

import contextlib
import dataclasses
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from serving_fixture import ITEMS, ROOT, TRAINED, USERS, make_bundle

import serving.bundle
from pipeline.errors import ArtifactError
from serving.bundle import VERSION, Bundle
from serving.filters import parse_filter
from serving.retriever import Query, Retriever

FILES = [
    "bundle.json",
    "golden.json",
    "history_items.npy",
    "history_offsets.npy",
    "index/0.faiss",
    "index_curve.json",
    "index_curve.png",
    "item_hashes.npy",
    "item_indices.npy",
    "item_order.npy",
    "item_rows.npy",
    "items.arrow",
    "map_items.npy",
    "map_points.npy",
    "neighbours_session.npy",
    "neighbours_session_scores.npy",
    "neighbours_title.npy",
    "neighbours_title_scores.npy",
    "norms.npy",
    "user_hashes.npy",
    "user_inputs.npy",
    "user_order.npy",
    "user_tower.tflite",
    "user_tower/saved_model.pb",
    "users.arrow",
    "vectors.npy",
    "vocabulary/0.parquet",
]
VERSIONS = sorted((Path(__file__).parent / "bundles").glob("v*.zip"))


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


def file_in(bundle: Path, name: str) -> Path:
    (run,) = bundle.glob("run=*")
    return run / name


def test_opened_bundle_holds_what_was_exported(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert len(bundle.index) == len(bundle.item_indices) == len(bundle.items) == ITEMS
    assert len(bundle.users) == USERS
    assert [bundle.rows[i] for i in bundle.item_indices] == list(range(ITEMS))


def test_what_grows_with_items_or_users_stays_on_disk(bundle_path: Path) -> None:
    allocated = pa.total_allocated_bytes()
    bundle = Bundle.open(bundle_path)
    tables = [bundle.items.ids.hashes, bundle.items.ids.order, bundle.users.ids.hashes, bundle.users.ids.order]
    lists = [array for each in bundle.neighbours.values() for array in (each.items, each.scores)]
    for array in [*tables, *lists, bundle.users.items, bundle.users.offsets, bundle.rows, bundle.item_indices]:
        assert isinstance(array.base, np.memmap)
    assert isinstance(bundle.index.vectors.base, np.memmap)
    assert pa.total_allocated_bytes() - allocated < 1000  # the strings are not copied


def test_halves_are_mapped_and_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.export_index.HALVED", 0)
    bundle = Bundle.open(make_bundle(tmp_path).path)
    copies = file_in(bundle.artifact.dir.parent, "index/halves.faiss")
    assert str(copies) in Path("/proc/self/maps").read_text()
    retriever = Retriever(bundle)
    with_halves = [retriever.recommend(Query(f"u{user}", k=5)).items.tolist() for user in range(USERS)]
    monkeypatch.setattr(bundle.index, "_halves", None)
    assert [retriever.recommend(Query(f"u{user}", k=5)).items.tolist() for user in range(USERS)] == with_halves


def test_files_are_all_of_the_bundle(bundle_path: Path) -> None:
    assert {name for name in FILES if not file_in(bundle_path, name).is_file()} == set()
    written = {str(path.relative_to(next(bundle_path.glob("run=*")))) for path in bundle_path.rglob("run=*/**/*")}
    rest = {name for name in written if not name.startswith(("user_tower/", "vocabulary/"))}
    assert {name for name in rest if "." in name} <= {*FILES, "MANIFEST.json"}  # of its run, for a rollback


@pytest.mark.parametrize("archive", VERSIONS, ids=lambda path: path.stem)
def test_bundles_of_every_version_stay_readable(archive: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path)
    bundle = Bundle.open(tmp_path)  # answers the golden queries
    assert f"v{bundle.artifact.manifest['spec']['version']}" == archive.stem
    retriever = Retriever(bundle)
    wanted = parse_filter({"field": "price", "lt": 30}, bundle.items.kinds)
    found = retriever.recommend(Query("u3", k=5, filter=wanted))
    assert len(found.items) == 5
    assert retriever.item("i008") == {
        "item_id": "i008",
        "title": "Title 8",
        "fields": {"category": "film", "tags": ["a", "b", "c"], "price": 7.0},
        "train_events": TRAINED - 7,
        "indexed": True,
    }
    assert retriever.user("u3")["fields"] == {"gender": "m", "age": 19.0, "interests": ["c"]}
    # The golden bundles are older than what people look at.
    assert (bundle.neighbours, bundle.map) == ({}, None)
    assert retriever.similar("i008", 3, filter=wanted).items.tolist() == nearest(bundle, 8, range(1, 30), 3)


def nearest(bundle: Bundle, item: int, prices: range, k: int) -> list[int]:
    """The k items of highest cosine, among those with one of the prices (an item's price is its index less one)."""
    vectors = bundle.index.vectors
    scores = vectors @ vectors[item - 1] / np.linalg.norm(vectors, axis=1)
    others = [i for i in np.argsort(-scores, kind="stable") + 1 if i - 1 in prices and (i - 1) % 10 and i != item]
    return others[:k]


def test_the_version_that_is_written_has_a_golden_bundle() -> None:
    assert VERSIONS[-1].stem == f"v{VERSION}"


def test_missing_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no bundle artefact at .*\. Cure: twotower export"):
        Bundle.open(tmp_path / "nowhere")


def test_bundle_of_another_version_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "MANIFEST.json").read_text())
    manifest["spec"]["version"] = 999
    (copy / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="version 999"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_named(copy: Path, name: str) -> None:
    file = file_in(copy, name)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_altered_file_is_named(copy: Path, name: str) -> None:
    file = file_in(copy, name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    file_in(copy, name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Bundle.open(copy)


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_of_the_manifest_never_crash(copy: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray((copy / "MANIFEST.json").read_bytes())
    for _ in range(3):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(7)
    (copy / "MANIFEST.json").write_bytes(content)
    with contextlib.suppress(ArtifactError):  # a flip among the counts does no harm
        Bundle.open(copy)


def test_golden_query_with_other_scores_is_refused(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    golden = dataclasses.replace(bundle.goldens[0], scores=[s + 0.01 for s in bundle.goldens[0].scores])
    with pytest.raises(ArtifactError, match="other scores"):
        dataclasses.replace(bundle, goldens=[golden]).check_goldens()


def test_golden_query_encoded_otherwise_is_refused(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    encoder = dataclasses.replace(bundle.encoder, history_length=bundle.encoder.history_length + 1)
    with pytest.raises(ArtifactError, match="encoded otherwise"):
        dataclasses.replace(bundle, encoder=encoder).check_goldens()


FRESH = """
import sys
from serving import app, client
from serving.bundle import Bundle
from serving.filters import parse_filter
from serving.retriever import Query, Retriever
bundle = Bundle.open(sys.argv[1])
wanted = parse_filter({"field": "category", "eq": "film"}, bundle.items.kinds)
found = Retriever(bundle).recommend(Query("u3", k=7, filter=wanted))
foreign = {"tensorflow", "tf_keras", "keras", "apache_beam", "towers", "ssl_tasks", "beam_jobs"}
print(len(found.items), sorted(foreign & {name.split(".")[0] for name in sys.modules}))
"""


def test_fresh_process_answers_without_tensorflow_or_training_code(bundle_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FRESH, str(bundle_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split(maxsplit=1) == ["7", "[]\n"]


@pytest.mark.parametrize("swapped", [None, 0, 3, 4, 7])
def test_rows_are_in_order_unless_two_neighbours_are_not(swapped: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.bundle, "BLOCK", 4)
    indices = np.arange(1, 10)
    if swapped is not None:
        indices[[swapped, swapped + 1]] = indices[[swapped + 1, swapped]]
    assert serving.bundle._ascend(indices) is (swapped is None)
