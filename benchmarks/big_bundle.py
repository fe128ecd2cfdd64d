"""A bundle of a catalogue of any size, made from a trained one: its tower and users, its items and variations of them.

Made once, under work/. The variations are the trained vectors with noise, so that they lie in clusters as items do; the
index is chosen, built and tuned to its recall target by the code of `twotower export`, with the vectors of real users.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import ROOT
from pipeline import export_index, export_recall
from pipeline.artifacts import Spec, create, current
from pipeline.config import ExportConfig
from serving.bundle import KIND, VERSION, Bundle
from serving.ids import Ids
from serving.records import FIELD

NOISE = 0.5
"""Length of the noise beside that of a vector: variations have a cosine of about 0.9 with their original."""
QUERIES, GOLDEN_K = 1000, 10
CONFIG = ExportConfig()


def made(source: Path, items: int) -> Path:
    """The bundle of so many items, at least as many as the trained one has."""
    bundle = Bundle.open(source)
    assert bundle.artifact is not None
    path = ROOT / "work" / "big" / f"{source.name}-{items}"
    spec = Spec(KIND, VERSION, {"bundle": bundle.artifact.fingerprint}, {"items": items, **CONFIG.model_dump()})
    if current(path, spec) is None:
        with create(path, spec) as draft:
            _write(bundle, items, draft.dir)
            draft.counts |= {"items": items, "indexed_items": items, "users": len(bundle.users)}
    return path


def _write(bundle: Bundle, items: int, directory: Path) -> None:
    assert bundle.artifact is not None
    for name in bundle.artifact.manifest["files"]:
        if name == "user_tower.tflite" or name.startswith("vocabulary/"):
            (directory / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.artifact.file(name), directory / name)
    vectors = _vectors(bundle, items)
    _write_records(bundle, items, directory)
    queries = queries_of(bundle)
    settings = json.loads(bundle.artifact.file("bundle.json").read_text(encoding="utf-8"))
    settings |= {"neighbours": [], "map": None}  # of the trained items alone
    settings["index"] = _write_index(vectors, queries, directory)
    _write_json(directory / "bundle.json", settings)
    goldens = [vars(golden) for golden in bundle.goldens]
    for golden in goldens:
        inputs = {name: np.array([value], np.int32) for name, value in golden["inputs"].items()}
        scores = (vectors @ bundle.tower(inputs)[0].T).max(axis=1)  # (N, K) -> (N,)
        best = np.argsort(-scores, kind="stable")[:GOLDEN_K]
        golden |= {"items": [_name(bundle, row) for row in best.tolist()], "scores": scores[best].tolist()}
    _write_json(directory / "golden.json", goldens)


def _vectors(bundle: Bundle, items: int) -> np.ndarray:
    """float32 [items, D]: the trained ones in the order of their items, then variations of the same lengths."""
    trained = bundle.index.vectors[bundle.rows[1:]]
    rng = np.random.default_rng(0)
    copies = trained[rng.integers(0, len(trained), items - len(trained))]
    lengths = np.linalg.norm(copies, axis=1, keepdims=True)
    noise = rng.standard_normal(copies.shape, dtype=np.float32)
    varied = copies + NOISE * lengths * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    varied *= lengths / np.linalg.norm(varied, axis=1, keepdims=True)
    return np.concatenate((trained, varied)).astype(np.float32)


def _name(bundle: Bundle, row: int) -> str:
    return bundle.items.ids.values[row].as_py() if row < len(bundle.items) else f"variation-{row}"


def _write_records(bundle: Bundle, items: int, directory: Path) -> None:
    more = range(len(bundle.items), items)
    names = pa.array([*bundle.items.ids.values.to_pylist(), *(f"variation-{row}" for row in more)], pa.large_string())
    titles = pa.array([*bundle.items.titles.to_pylist(), *(f"Variation {row}" for row in more)], pa.large_string())
    counts = pa.array(np.ones(items, np.int64))
    _write_columns({"item_id": names, "title": titles, "count": counts}, directory / "items.arrow")
    users = bundle.users
    fields = {FIELD + name: values for name, values in users.fields.items()}
    counts = pa.array(np.ones(len(users), np.int64))
    _write_columns({"user_id": users.ids.values, "count": counts, **fields}, directory / "users.arrow")
    for side, ids in (("item", Ids.of(names)), ("user", users.ids)):
        np.save(directory / f"{side}_hashes.npy", ids.hashes)
        np.save(directory / f"{side}_order.npy", ids.order)
    np.save(directory / "user_inputs.npy", _encoded_users(bundle))
    np.save(directory / "history_offsets.npy", users.offsets)
    np.save(directory / "history_items.npy", users.items)
    np.save(directory / "item_indices.npy", np.arange(1, items + 1, dtype=np.int32))
    np.save(directory / "item_rows.npy", np.arange(-1, items, dtype=np.int32))


def _encoded_users(bundle: Bundle) -> np.ndarray:
    """int32 [U, W], as pipeline/export.py writes it."""
    names, nothing = list(bundle.encoder.columns), np.empty(0, np.int32)
    rows = [
        [bundle.encode(user, nothing, {})[name].ravel() for name in names] for user in range(1, len(bundle.users) + 1)
    ]
    return np.array([np.concatenate((nothing, *row)) for row in rows], dtype=np.int32)


def _write_columns(columns: dict[str, pa.Array], path: Path) -> None:
    batch = pa.record_batch(columns)
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)


def queries_of(bundle: Bundle) -> np.ndarray:
    """The vectors [Q, K, D] of real users."""
    users = (1 + np.random.default_rng(0).permutation(len(bundle.users))[:QUERIES]).tolist()
    encoded = [bundle.encoder.encode(bundle.users.history(user), bundle.known_features(user)) for user in users]
    return np.concatenate([bundle.tower(inputs) for inputs in encoded])


def _write_index(vectors: np.ndarray, queries: np.ndarray, directory: Path) -> dict[str, object]:
    norms = np.linalg.norm(vectors, axis=1)
    np.save(directory / "vectors.npy", vectors)
    np.save(directory / "norms.npy", norms)
    shards = export_index.build(vectors, CONFIG)
    name = export_index.factory(CONFIG, int(shards[0][0].ntotal), vectors.shape[1])
    trial = export_recall.Trial(shards, vectors, norms, queries, CONFIG.recall_at)
    tuned = export_recall.tune(trial, name, CONFIG.recall_target)
    export_recall.check(tuned)
    written = export_index.write(shards, vectors, directory)
    return {**written, "depth": tuned.depth, "refine": tuned.refine, "tuned_for": tuned.k}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
