"""The trained model -> a bundle: the user tower, the item index and all that a server needs, published at once.

Nothing is published, and the bundle before stays as it is, unless the exported tower computes what Keras
does, requests are encoded as in training, and the index reaches `export.recall_target`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline import export_index, export_map, export_plot, export_recall
from pipeline.artifacts import Artifact, Draft, Spec, create, current, open_artifact
from pipeline.catalogue import FieldTable, Vocabularies, user_table
from pipeline.config import Config, ExportConfig
from pipeline.dataset import user_inputs
from pipeline.errors import ArtifactError
from pipeline.export_neighbours import open_lists, write_lists
from pipeline.export_records import Histories, user_fields, write_items, write_users
from pipeline.export_tower import check_parity, save_tower
from pipeline.progress import bar
from pipeline.sequences import KIND as SEQUENCES_KIND
from pipeline.sequences import VERSION as SEQUENCES_VERSION
from pipeline.sequences import UserSequences
from pipeline.storage import Location
from pipeline.tables import Tables
from pipeline.train import load_model, open_model
from serving.bundle import KIND, VERSION, Bundle
from serving.item_map import ITEMS, POINTS
from towers.keras import keras

QUERIES = 1000
GOLDENS, GOLDEN_K = 10, 10
VECTOR_BATCH = 16_384


class Model(Protocol):
    """What is exported of a trained model; see towers/two_tower.py."""

    user_tower: keras.Model

    def user_input_spec(self) -> dict[str, tuple[int, ...]]: ...

    def item_vectors(self, indices: np.ndarray) -> np.ndarray: ...

    def user_vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray: ...


@dataclass(frozen=True)
class Sources:
    """What a bundle is made of."""

    model: Model
    tables: Tables
    vocabularies: Vocabularies
    sequences: UserSequences
    neighbours: Mapping[str, Artifact] = field(default_factory=dict)
    """By kind; see pipeline/export_neighbours.py."""


def export(config: Config) -> Artifact:
    """Write and publish the bundle of the trained model; one that is current already is left alone.

    Raises ArtifactError when an input is missing or the bundle is not good enough to publish, ConfigError when
    FAISS cannot build `export.index`.
    """
    model = open_model(config)
    sequences = open_artifact(config.prepared_dir("user_sequences"), SEQUENCES_KIND, SEQUENCES_VERSION)
    tables, vocabularies = Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies"))
    inputs = {
        "model": model.fingerprint,
        "tables": tables.artifact.fingerprint,
        "vocabularies": vocabularies.artifact.fingerprint,
        "user_sequences": sequences.fingerprint,
    }
    neighbours = open_lists(config, sequences) if config.export.neighbours else {}
    inputs |= {f"neighbours_{kind}": artifact.fingerprint for kind, artifact in neighbours.items()}
    spec = Spec(KIND, VERSION, inputs, config.export.model_dump())
    published = current(config.bundle_dir, spec)
    if published is not None:
        return published
    known = UserSequences.from_artifact(sequences)
    sources = Sources(load_model(config), tables, vocabularies, known, neighbours)
    return publish(config.bundle_dir, spec, sources, config.export)


def publish(path: Location, spec: Spec, sources: Sources, settings: ExportConfig) -> Artifact:
    """Write the bundle beside the published one and, when every check passes, put it in its place."""
    with create(path, spec) as draft:
        _write(draft, sources, settings)
    return open_artifact(path, KIND, VERSION)


def _write(draft: Draft, sources: Sources, settings: ExportConfig) -> None:
    model, directory = sources.model, draft.dir
    indices, vectors = item_vectors(sources, settings)
    write_items(sources.tables, sources.vocabularies, directory)
    every_event = Histories.of(sources.sequences, sources.vocabularies.users.size)
    write_users(sources.tables, sources.vocabularies, every_event, directory)

    queries = QuerySet.draw(sources)
    spec = model.user_input_spec()
    tensors = save_tower(model.user_tower, spec, directory)
    parity = check_parity(model.user_tower, queries.inputs, tensors, directory)
    np.save(directory / "item_rows.npy", _rows(indices, sources.vocabularies.items.size))
    index = _write_index(indices, vectors, user_vectors(model, queries.inputs), settings, directory)

    fields = user_fields(sources.vocabularies, sources.tables, spec, directory)
    np.save(directory / "user_inputs.npy", _encoded_users(sources, [field["name"] for field in fields]))
    bundle = {"history_length": spec["history"][0], "tensors": tensors, "fields": fields, "index": index.settings}
    _write_json(directory / "bundle.json", bundle | _for_people(sources, indices, vectors, settings, directory))
    goldens = golden_queries(sources, every_event, queries.users[:GOLDENS], indices, vectors)
    _write_json(directory / "golden.json", goldens)
    check_encoding(Bundle.read(lambda name: directory / name), queries)

    draft.counts |= {
        "items": sources.vocabularies.items.size - 1,
        "indexed_items": len(indices),
        "users": sources.vocabularies.users.size - 1,
        "dimension": vectors.shape[1],
        "index": index.name,
        "recall": index.recall,
        "parity": parity,
    }


def _for_people(
    sources: Sources, indices: np.ndarray, vectors: np.ndarray, settings: ExportConfig, directory: Path
) -> dict[str, Any]:
    """Write what only the explorer page shows, and tell what there is: kinds of neighbours, method of the map."""
    items = sources.vocabularies.items
    lists = sources.neighbours if settings.neighbours else {}
    kinds = write_lists(lists, items, settings.neighbours, directory)
    places = export_map.draw_sample(items.counts[indices - 1], settings.map_items)
    if not export_map.possible(vectors[places]):
        return {"neighbours": kinds, "map": None}
    np.save(directory / ITEMS, indices[places])
    np.save(directory / POINTS, export_map.project(vectors[places]))
    return {"neighbours": kinds, "map": export_map.METHOD}


@dataclass(frozen=True)
class WrittenIndex:
    """name: the factory string. settings: what the server needs to search it. recall: what was measured of it."""

    name: str
    settings: dict[str, Any]
    recall: dict[str, Any]


def _write_index(
    indices: np.ndarray, vectors: np.ndarray, queries: np.ndarray, settings: ExportConfig, directory: Path
) -> WrittenIndex:
    """Build the index, tune it with queries [Q, K, D], and write it. Raises ArtifactError under the recall target."""
    norms = np.linalg.norm(vectors, axis=1)
    for name, array in (("item_indices", indices), ("vectors", vectors), ("norms", norms)):
        np.save(directory / f"{name}.npy", array)
    shards = export_index.build(vectors, settings)
    name = export_index.factory(settings, int(shards[0][0].ntotal), vectors.shape[1])
    trial = export_recall.Trial(shards, vectors, norms, queries, settings.recall_at)
    tuned = export_recall.tune(trial, name, settings.recall_target)
    export_recall.check(tuned)
    _write_json(directory / "index_curve.json", tuned.as_json())
    export_plot.draw(tuned, directory / "index_curve.png")
    written = export_index.write(shards, vectors, directory)
    search = {**written, "depth": tuned.depth, "refine": tuned.refine, "tuned_for": tuned.k}
    measured = {key: getattr(tuned, key) for key in ("k", "queries", "depth", "refine", "target")}
    return WrittenIndex(name, search, {"value": tuned.recall, **measured})


def _rows(indices: np.ndarray, size: int) -> np.ndarray:
    """int32 [size]: the row of each item index, -1 where it is not indexed."""
    rows = np.full(size, -1, dtype=np.int32)
    rows[indices] = np.arange(len(indices), dtype=np.int32)
    return rows


def _encoded_users(sources: Sources, fields: list[str]) -> np.ndarray:
    """int32 [U, W]: the fields of every user as the tower takes them, side by side."""
    columns = user_table(sources.tables, sources.vocabularies).columns
    users = sources.vocabularies.users.size - 1
    parts = [columns[name][1:].reshape(users, -1) for name in fields]  # (U) -> (U, 1)
    return np.concatenate([np.empty((users, 0), np.int32), *parts], axis=1).astype(np.int32)


def user_vectors(model: Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [Q, K, D]; K = 1 of a tower with one vector a user."""
    vectors = model.user_vectors(inputs)
    return vectors if vectors.ndim == 3 else vectors[:, np.newaxis]  # (Q, D) -> (Q, 1, D)


def item_vectors(sources: Sources, settings: ExportConfig) -> tuple[np.ndarray, np.ndarray]:
    """(indices int32 [N], vectors float32 [N, D]) of the items `export.catalogue` asks for."""
    items = sources.vocabularies.items
    indices = np.arange(1, items.size, dtype=np.int32)
    if settings.catalogue == "trained":
        indices = indices[items.counts > 0]
    if not len(indices):
        raise ArtifactError("there is no item to index. Cure: check the tables, or set `export.catalogue` to all")
    starts = range(0, len(indices), VECTOR_BATCH)
    batches = bar([indices[s : s + VECTOR_BATCH] for s in starts], desc="item vectors", unit="batch")
    vectors = np.concatenate([sources.model.item_vectors(batch) for batch in batches]).astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        raise ArtifactError("the model gives item vectors that are not finite. Cure: train again with a lower rate")
    return indices, vectors


@dataclass(frozen=True)
class QuerySet:
    """Held-out real requests: users [Q] as they were before their test part, which no training step has seen.

    users: int32 [Q], user indices; histories: the item indices each had; inputs: the tower's, encoded as in training.
    """

    users: np.ndarray
    histories: list[np.ndarray]
    inputs: dict[str, np.ndarray]

    @classmethod
    def draw(cls, sources: Sources) -> "QuerySet":
        """At most QUERIES users, at random but always the same."""
        sequences = sources.sequences
        before_test = Histories.of(sequences, sources.vocabularies.users.size, sequences.validation_end)
        if not len(sequences):
            raise ArtifactError("no user is left to measure the index with. Cure: lower `split.min_events`")
        rng = np.random.default_rng(0)
        users = rng.choice(sequences.users, min(QUERIES, len(sequences)), replace=False)
        # With one query there would be none left to measure on after tuning.
        users = np.resize(users, max(len(users), 2))
        histories = [before_test.of_user(user) for user in users]
        return cls(users, histories, tower_inputs(sources, users, histories))


def tower_inputs(sources: Sources, users: np.ndarray, histories: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The user tower's inputs exactly as evaluation makes them."""
    spec = sources.model.user_input_spec()
    table = user_table(sources.tables, sources.vocabularies)
    fields = tuple(field for field in table.fields if field.name in spec)
    table = FieldTable(fields, {field.name: table.columns[field.name] for field in fields})
    offsets = np.concatenate(([0], np.cumsum([len(h) for h in histories])))
    return user_inputs((offsets, np.concatenate(histories)), users, table, spec["history"][0])


def golden_queries(
    sources: Sources, histories: Histories, users: np.ndarray, indices: np.ndarray, vectors: np.ndarray
) -> list[dict[str, Any]]:
    """What Keras and an exact scan answer for some users, for every reader of the bundle to compare with."""
    inputs = tower_inputs(sources, users, [histories.of_user(user) for user in users])
    scores = (user_vectors(sources.model, inputs) @ vectors.T).max(axis=1)  # (G, K, N) -> (G, N)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :GOLDEN_K]
    vocabularies = sources.vocabularies
    return [
        {
            "user_id": vocabularies.users.value(user),
            "inputs": {name: values[i].tolist() for name, values in inputs.items()},
            "items": vocabularies.items.decode(indices[best[i]]).to_pylist(),
            "scores": scores[i, best[i]].tolist(),
        }
        for i, user in enumerate(users.tolist())
    ]


def check_encoding(bundle: Bundle, queries: QuerySet) -> None:
    """Raises ArtifactError unless the server encodes every query and answers every golden one as training would."""
    for i, (user, history) in enumerate(zip(queries.users.tolist(), queries.histories, strict=True)):
        encoded = bundle.encoder.encode(history, bundle.known_features(user))
        kept = bundle.encode(user, history, {})
        for name, values in queries.inputs.items():
            if not (np.array_equal(encoded[name][0], values[i]) and np.array_equal(kept[name][0], values[i])):
                raise ArtifactError(f"serving encodes `{name}` of user {user} otherwise than training does")
    bundle.check_goldens()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
