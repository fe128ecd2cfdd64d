"""A bundle: everything one server needs to answer requests, written by pipeline/export.py as one artefact.

bundle.json              the tower's inputs, the user fields, the index and its search settings
user_tower/              SavedModel, for whoever serves with TensorFlow
user_tower.tflite        the same tower for LiteRT, which this package runs
index/<n>.faiss          FAISS indexes over consecutive rows of vectors.npy, inner product
index/halves.faiss       of a large Flat index: vectors.npy in half precision
vectors.npy              float32 [N, D], for exact scans; norms.npy float32 [N], their lengths
item_indices.npy         int32 [N], the item index of each row
item_rows.npy            int32 [R + 1], the row of each item index, -1 where not indexed
items.arrow              item_id, title, count (train events), field.<name> (raw); row i is item index i + 1
item_hashes.npy          uint32 [R], the CRC-32 of the ids, ascending; item_order.npy int32 [R], the row of each
users.arrow              user_id, count, field.<name>; row i is user index i + 1
user_inputs.npy          int32 [U, W], the encoded fields that the tower reads, in the order of bundle.json
user_hashes.npy          and user_order.npy, as of the items
history_offsets.npy      int64 [U + 1], and history_items.npy int32: each user's items in all of the log, oldest first
vocabulary/<n>.parquet   values of the n-th categorical or multi user field
golden.json              users, their inputs, and their exact best items
neighbours_<kind>.npy    int32 [R, T], item indices, best first, 0 for none; neighbours_<kind>_scores.npy float32 [R, T]
map_items.npy            int32 [M], a sample of the items; map_points.npy float32 [M, 2], where each lies on a map
index_curve.json         recall and latency of each depth of search that was tried; index_curve.png its plot

bundle.json names the halves, the kinds of neighbours and the method of the map that are there. Version 1 is read by
serving/bundle_v1.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from pipeline.artifacts import Artifact, open_artifact
from pipeline.errors import ArtifactError
from pipeline.storage import Location, locate
from pipeline.vocabulary import Vocabulary
from serving import bundle_v1
from serving.encoder import FeatureValue, UserEncoder, UserField
from serving.halves import Halves
from serving.index import ItemIndex
from serving.item_map import ItemMap
from serving.neighbours import Neighbours
from serving.records import Items, Locate, Users, map_array
from serving.shard import Shard
from serving.tower import UserTower
from serving.turns import Rest

KIND, VERSION = "bundle", 2
OLDER = (1,)
"""Versions that are read too."""
GOLDEN_TOLERANCE = 1e-4
BLOCK = 1 << 16


@dataclass(frozen=True)
class Golden:
    """One golden query: a known user, the tower inputs and the exact best items and scores for them."""

    user_id: str
    inputs: dict[str, list[Any]]
    items: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; what grows with the catalogue or the users stays mapped to its files.

    item_indices: int32 [N], index row -> item index. rows: int [R + 1], item index -> index row, -1 where not indexed.
    in_order: whether row r is item r + 1, for every item: then neither array need be read.
    neighbours: by kind. map: None in a bundle without one.
    """

    tower: UserTower
    encoder: UserEncoder
    index: ItemIndex
    item_indices: np.ndarray
    rows: np.ndarray
    in_order: bool
    items: Items
    users: Users
    goldens: list[Golden]
    artifact: Artifact | None = None
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    map: ItemMap | None = None

    @classmethod
    def open(cls, path: Location | str, checked: bool = False, rest: Rest = lambda: None) -> "Bundle":
        """Open, verify every checksum, and answer the golden queries; checked: both was done. Path: see `open_files`.

        rest: called before a file is opened.
        Raises ArtifactError when the bundle is missing, of another version, truncated, altered, or answers wrongly.
        """
        artifact = open_files(path)
        if not checked:
            artifact.verify()

        def file(name: str) -> Path:
            rest()
            return artifact.file(name)

        bundle = cls.read(file, artifact.manifest["spec"]["version"], artifact)
        if not checked:
            bundle.check_goldens()
        return bundle

    @classmethod
    def read(cls, file: Locate, version: int = VERSION, artifact: Artifact | None = None) -> "Bundle":
        """Read the files of a bundle, unverified."""
        settings = json.loads(file("bundle.json").read_text(encoding="utf-8"))
        if version == VERSION:
            items, users, index = Items.read(file), Users.read(file), _index(settings["index"], file)
            item_rows = map_array(file("item_rows.npy"))
        else:
            items, users, index, item_rows = bundle_v1.read(file)
        item_indices = map_array(file("item_indices.npy"))
        return cls(
            tower=UserTower(file("user_tower.tflite"), settings["tensors"]),
            encoder=UserEncoder(settings["history_length"], tuple(_user_field(f, file) for f in settings["fields"])),
            index=index,
            item_indices=item_indices,
            rows=item_rows,
            in_order=len(item_indices) == len(items) and _ascend(item_indices),
            items=items,
            users=users,
            goldens=[Golden(**g) for g in json.loads(file("golden.json").read_text(encoding="utf-8"))],
            artifact=artifact,
            neighbours={kind: Neighbours.read(kind, file) for kind in settings.get("neighbours", ())},
            map=ItemMap.read(settings["map"], file) if settings.get("map") else None,
        )

    @property
    def complete(self) -> bool:
        """Whether every item is indexed."""
        return len(self.index) == len(self.items)

    def check_goldens(self) -> None:
        """Answer every golden query. Raises ArtifactError naming the user whose inputs or scores came out different."""
        for golden in self.goldens:
            index = self.users.index(golden.user_id)
            inputs = self.encode(index, self.users.history(index), {})
            if {name: value[0].tolist() for name, value in inputs.items()} != golden.inputs:
                raise ArtifactError(f"golden user {golden.user_id!r} is encoded otherwise than at export")
            found = self.index.scan(self.tower(inputs)[0], len(golden.scores))
            if not np.allclose(found.scores, golden.scores, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
                raise ArtifactError(f"golden user {golden.user_id!r} gets other scores than at export")

    def encode(self, user: int, history: np.ndarray, features: Mapping[str, FeatureValue]) -> dict[str, np.ndarray]:
        """The tower's inputs for a history and features, which replace those of the known user, if `user` is not 0.

        See UserEncoder.encode.
        """
        if user and self.users.encoded is not None:
            return self.encoder.encode(history, features, self.users.encoded[user - 1])
        return self.encoder.encode(history, {**(self.known_features(user) if user else {}), **features})

    def known_features(self, user: int) -> dict[str, Any]:
        """The raw values of the tower's fields for a known user."""
        features = self.users.features(user)
        return {field.name: features[field.name] for field in self.encoder.fields}


def open_files(path: Location | str) -> Artifact:
    """The published run of the bundle at `path`; or, of a path that ends in `run=...`, that run of its bundle.

    Raises ArtifactError.
    """
    path = locate(path)
    if path.name.startswith("run="):
        return open_artifact(path.parent, KIND, VERSION, OLDER, run=path.name)
    return open_artifact(path, KIND, VERSION, OLDER)


def _index(settings: dict[str, Any], file: Locate) -> ItemIndex:
    """Map the index; see pipeline/export_index.py for its settings."""
    shards = [Shard(_mapped(file(name)), start, settings["depth"]) for name, start in settings["shards"]]
    vectors, norms = map_array(file("vectors.npy")), map_array(file("norms.npy"))
    halves = settings.get("halves")
    return ItemIndex(
        shards,
        vectors,
        norms,
        settings["tuned_for"],
        settings["refine"],
        Halves(_mapped(file(halves["file"])), halves["error"]) if halves else None,
    )


def _mapped(path: Path) -> faiss.Index:
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _ascend(indices: np.ndarray) -> bool:
    """In blocks: a difference of all would take the memory of all."""
    blocks = (indices[start : start + BLOCK + 1] for start in range(0, len(indices), BLOCK))
    return all(bool((block[1:] > block[:-1]).all()) for block in blocks)


def _user_field(settings: dict[str, Any], file: Locate) -> UserField:
    values = settings["vocabulary"]
    return UserField(
        name=settings["name"],
        kind=settings["kind"],
        width=settings["width"],
        vocabulary=Vocabulary.read(file(values))
        if values
        else Vocabulary(pa.array([], pa.string()), np.empty(0, np.int64)),
        boundaries=np.array(settings["boundaries"], dtype=np.float64),
    )
