"""A bundle: everything one server needs to answer requests, written by pipeline/export.py as one artefact.

bundle.json              the tower's inputs, the user fields, the index's search settings
user_tower/              SavedModel, for whoever serves with TensorFlow
user_tower.tflite        the same tower for LiteRT, which this package runs
index.faiss              FAISS index over the rows of vectors.npy, inner product
vectors.npy              float32 [N, D], for exact scans
item_indices.npy         int32 [N], the item index of each row
items.parquet            item_id, title, count (train events), field.<name>; row i is item index i + 1
users.parquet            user_id, count, field.<name>; row i is user index i + 1
history_offsets.npy      int64 [U + 1], and history_items.npy int32: each user's items in all of the log, oldest first
vocabulary/<n>.parquet   values of the n-th categorical or multi user field
golden.json              users, their inputs, and their exact best items
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from pipeline.artifacts import Artifact, open_artifact
from pipeline.errors import ArtifactError
from pipeline.storage import Location
from pipeline.vocabulary import Vocabulary
from serving.encoder import UserEncoder, UserField
from serving.index import ItemIndex
from serving.records import Items, Users
from serving.shard import Shard
from serving.tower import UserTower

KIND, VERSION = "bundle", 1
GOLDEN_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Golden:
    """One golden query: a known user, the tower inputs and the exact best items and scores for them."""

    user_id: str
    inputs: dict[str, list[Any]]
    items: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory; large arrays stay mapped to their files.

    item_indices: int32 [N], index row -> item index. rows: int64 [R], item index -> index row, -1 where not indexed.
    """

    tower: UserTower
    encoder: UserEncoder
    index: ItemIndex
    item_indices: np.ndarray
    rows: np.ndarray
    items: Items
    users: Users
    goldens: list[Golden]
    artifact: Artifact | None = None

    @classmethod
    def open(cls, path: Location | str) -> "Bundle":
        """Open, verify every checksum, and answer the golden queries.

        Raises ArtifactError when the bundle is missing, of another version, truncated, altered, or answers wrongly.
        """
        artifact = open_artifact(path, KIND, VERSION)
        artifact.verify()
        bundle = cls.read(artifact.file, artifact)
        bundle.check_goldens()
        return bundle

    @classmethod
    def read(cls, file: Callable[[str], Path], artifact: Artifact | None = None) -> "Bundle":
        """Read the files that `file` locates, unverified."""
        settings = json.loads(file("bundle.json").read_text(encoding="utf-8"))
        item_indices = np.load(file("item_indices.npy"))
        items = Items.read(file("items.parquet"))
        rows = np.full(items.vocabulary.size, -1, dtype=np.int64)
        rows[item_indices] = np.arange(len(item_indices))
        return cls(
            tower=UserTower(file("user_tower.tflite"), settings["tensors"]),
            encoder=UserEncoder(settings["history_length"], tuple(_user_field(f, file) for f in settings["fields"])),
            index=_index(file),
            item_indices=item_indices,
            rows=rows,
            items=items,
            users=Users.read(file("users.parquet"), file("history_offsets.npy"), file("history_items.npy")),
            goldens=[Golden(**g) for g in json.loads(file("golden.json").read_text(encoding="utf-8"))],
            artifact=artifact,
        )

    @cached_property
    def complete(self) -> bool:
        """Whether every item is indexed."""
        return len(self.index) == len(self.items.titles)

    def check_goldens(self) -> None:
        """Answer every golden query. Raises ArtifactError naming the user whose inputs or scores came out different."""
        for golden in self.goldens:
            index = self.users.index(golden.user_id)
            inputs = self.encoder.encode(self.users.history(index), self.known_features(index))
            if {name: value[0].tolist() for name, value in inputs.items()} != golden.inputs:
                raise ArtifactError(f"golden user {golden.user_id!r} is encoded otherwise than at export")
            found = self.index.scan(self.tower(inputs)[0], len(golden.scores))
            if not np.allclose(found.scores, golden.scores, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE):
                raise ArtifactError(f"golden user {golden.user_id!r} gets other scores than at export")

    def known_features(self, user: int) -> dict[str, Any]:
        """The values of the tower's fields for a known user."""
        features = self.users.features(user)
        return {field.name: features[field.name] for field in self.encoder.fields}


def _index(file: Callable[[str], Path]) -> ItemIndex:
    vectors = np.load(file("vectors.npy"), mmap_mode="r")
    index = faiss.read_index(str(file("index.faiss")), faiss.IO_FLAG_MMAP_IFC)
    return ItemIndex([Shard(index)], vectors, np.linalg.norm(vectors, axis=1), refine=1.0)


def _user_field(settings: dict[str, Any], file: Callable[[str], Path]) -> UserField:
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
