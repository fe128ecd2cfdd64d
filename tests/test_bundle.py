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
import pytest
from serving_fixture import ITEMS, ROOT, USERS

from pipeline.errors import ArtifactError
from serving.bundle import Bundle

FILES = [
    "bundle.json",
    "golden.json",
    "history_items.npy",
    "history_offsets.npy",
    "index.faiss",
    "item_indices.npy",
    "items.parquet",
    "user_tower.tflite",
    "user_tower/saved_model.pb",
    "users.parquet",
    "vectors.npy",
    "vocabulary/0.parquet",
]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


def file_in(bundle: Path, name: str) -> Path:
    (run,) = bundle.glob("run=*")
    return run / name


def test_opened_bundle_holds_what_was_exported(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert len(bundle.index) == len(bundle.item_indices) == len(bundle.items.titles) == ITEMS
    assert len(bundle.users.offsets) == USERS + 1
    assert [bundle.rows[i] for i in bundle.item_indices] == list(range(ITEMS))


def test_large_arrays_stay_on_disk(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert isinstance(bundle.users.items, np.memmap)
    assert isinstance(bundle.index.vectors.base, np.memmap)


def test_missing_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle artefact"):
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
from serving.retriever import Query, Retriever
found = Retriever(Bundle.open(sys.argv[1])).recommend(Query("u3", k=7))
foreign = {"tensorflow", "tf_keras", "keras", "apache_beam", "towers", "ssl_tasks", "beam_jobs"}
print(len(found.items), sorted(foreign & {name.split(".")[0] for name in sys.modules}))
"""


def test_fresh_process_answers_without_tensorflow_or_training_code(bundle_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FRESH, str(bundle_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split(maxsplit=1) == ["7", "[]\n"]
