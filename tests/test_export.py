"""Export: what a bundle holds, what it is measured by, and what is refused."""

import dataclasses
import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from serving_fixture import ITEMS, TRAINED, USERS, config, history, make_bundle, sources, write_inputs

from pipeline import export_index
from pipeline.artifacts import Artifact, Spec, open_artifact
from pipeline.config import Config, ExportConfig
from pipeline.errors import ArtifactError, ConfigError
from pipeline.export import QuerySet, Sources, check_encoding, export, publish
from pipeline.export_tower import check_parity, save_tower
from pipeline.train import load_model, train
from serving.bundle import Bundle
from serving.tower import UserTower
from towers.keras import keras, tf


@pytest.fixture(scope="module")
def published(bundle_path: Path) -> Artifact:
    return open_artifact(bundle_path, "bundle", 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The config of a model trained for one epoch."""
    settings = config(tmp_path_factory.mktemp("trained"))
    settings.train.max_epochs = 1
    write_inputs(settings)
    train(settings)
    return settings


def test_export_publishes_the_trained_model(trained: Config) -> None:
    artifact = export(trained)
    indices = np.load(artifact.file("item_indices.npy"))
    expected = load_model(trained).item_vectors(indices)
    np.testing.assert_array_equal(np.load(artifact.file("vectors.npy")), expected)
    assert len(Bundle.open(trained.bundle_dir).index) == ITEMS


def test_bundle_that_is_current_is_left_alone(trained: Config) -> None:
    assert export(trained).manifest == export(trained).manifest


def test_export_with_other_settings_is_made_anew(trained: Config) -> None:
    before = export(trained).manifest
    other = trained.model_copy(update={"export": ExportConfig(recall_at=20)})
    assert export(other).manifest["run"] != before["run"]


def test_export_without_a_model_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model artefact"):
        export(config(tmp_path))


@pytest.fixture(scope="module")
def made_of(serving_dir: Path, bundle_path: Path) -> Sources:
    return sources(serving_dir)


def test_counts_say_what_was_exported(published: Artifact) -> None:
    counts = dict(published.counts)
    assert max(counts.pop("parity").values()) <= 1e-5
    assert counts == {
        "items": ITEMS,
        "indexed_items": ITEMS,
        "users": USERS,
        "dimension": 8,
        "index": "Flat",
        "recall": {"k": 50, "value": 1.0, "queries": 19, "parameter": {}, "target": 0.99},
    }


def test_vectors_are_those_of_the_item_tower(published: Artifact, made_of: Sources) -> None:
    indices = np.load(published.file("item_indices.npy"))
    expected = made_of.model.item_vectors(indices)
    np.testing.assert_array_equal(np.load(published.file("vectors.npy")), expected)
    stored = faiss.read_index(str(published.file("index.faiss"))).reconstruct_n(0, len(indices))
    np.testing.assert_array_equal(stored, expected)


def test_histories_hold_every_known_event_in_order(published: Artifact) -> None:
    offsets, items = (np.load(published.file(f"history_{name}.npy")) for name in ("offsets", "items"))
    stored = [items[offsets[u] : offsets[u + 1]].tolist() for u in range(USERS)]
    assert stored == [[item for item in history(u) if item] for u in range(1, USERS + 1)]


def test_golden_queries_are_the_exact_best_of_keras(published: Artifact, made_of: Sources) -> None:
    vectors = made_of.model.item_vectors(np.arange(1, ITEMS + 1, dtype=np.int32))
    goldens = json.loads(published.file("golden.json").read_text())
    assert len({golden["user_id"] for golden in goldens}) == 10
    for golden in goldens:
        inputs = {name: np.array([value], np.int32) for name, value in golden["inputs"].items()}
        scores = vectors @ made_of.model.user_vectors(inputs)[0]
        np.testing.assert_allclose(golden["scores"], np.sort(scores)[::-1][:10], atol=1e-5)


def encoded_users(made_of: Sources, count: int) -> dict[str, np.ndarray]:
    """Inputs of `count` users drawn at random, the first of them without a history."""
    rng = np.random.default_rng(5)
    inputs = {name: rng.integers(0, 4, (count, *shape)) for name, shape in made_of.model.user_input_spec().items()}
    inputs["history"][0] = 0
    return {name: values.astype(np.int32) for name, values in inputs.items()}


@pytest.mark.parametrize("count", [1, 2, 33])
def test_both_exported_towers_equal_keras_at_any_batch_size(published: Artifact, made_of: Sources, count: int) -> None:
    inputs = encoded_users(made_of, count)
    expected = made_of.model.user_vectors(inputs)
    tensors = json.loads(published.file("bundle.json").read_text())["tensors"]
    litert = UserTower(published.file("user_tower.tflite"), tensors)
    saved_model = tf.saved_model.load(str(published.dir / "user_tower")).signatures["serving_default"]
    by_tensor = {tensors[name]: tf.constant(values) for name, values in inputs.items()}
    np.testing.assert_allclose(litert(inputs)[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(saved_model(**by_tensor)["user_vector"].numpy(), expected, atol=1e-5)


def test_litert_tower_takes_batches_of_changing_size(published: Artifact, made_of: Sources) -> None:
    tensors = json.loads(published.file("bundle.json").read_text())["tensors"]
    litert = UserTower(published.file("user_tower.tflite"), tensors)
    inputs = encoded_users(made_of, 7)
    together = litert(inputs)
    alone = [litert({name: values[i : i + 1] for name, values in inputs.items()})[0] for i in range(7)]
    np.testing.assert_allclose(litert(inputs), together, atol=0)
    np.testing.assert_allclose(alone, together, atol=1e-6)


class Scaled(keras.Model):
    """A stand-in for a user tower, with field names that no signature takes."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = self.add_weight("factor", (), initializer=keras.initializers.Constant(factor))

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.cast(inputs["history"], tf.float32) * self.factor + tf.cast(inputs["a field.ü"], tf.float32)


SCALED_SPEC = {"history": (3,), "a field.ü": (3,)}


def test_any_field_name_survives_the_export(tmp_path: Path) -> None:
    inputs = {"history": np.array([[1, 2, 3]], np.int32), "a field.ü": np.array([[10, 20, 30]], np.int32)}
    tensors = save_tower(Scaled(2.0), SCALED_SPEC, tmp_path)
    assert UserTower(tmp_path / "user_tower.tflite", tensors)(inputs).tolist() == [[[12.0, 24.0, 36.0]]]


def test_exported_tower_that_differs_from_keras_is_refused(tmp_path: Path) -> None:
    tensors = save_tower(Scaled(2.0), SCALED_SPEC, tmp_path)
    inputs = {name: np.ones((4, 3), np.int32) for name in SCALED_SPEC}
    with pytest.raises(ArtifactError, match=r"exported user tower \(saved_model\) differs from Keras by"):
        check_parity(Scaled(2.001), inputs, tensors, tmp_path)


def test_nothing_is_published_under_the_recall_target(serving_dir: Path) -> None:
    before = make_bundle(serving_dir, "refused")
    with pytest.raises(ArtifactError, match=r"'PQ2x2' has recall@50 .* under the target 0\.99"):
        make_bundle(serving_dir, "refused", index="PQ2x2")
    assert open_artifact(before.path, "bundle", 1).manifest == before.manifest
    assert [path.name for path in before.path.glob("run=*")] == [before.manifest["run"]]
    Bundle.open(before.path)


def test_publishing_again_replaces_the_bundle(serving_dir: Path) -> None:
    before = make_bundle(serving_dir, "again")
    after = make_bundle(serving_dir, "again", catalogue="trained")
    assert after.path == before.path
    assert (before.counts["indexed_items"], after.counts["indexed_items"]) == (ITEMS, TRAINED)
    assert len(Bundle.open(after.path).index) == TRAINED


@pytest.mark.parametrize("factory", ["NoSuchIndex", "IVF4000,Flat", "IDMap,Flat"])
def test_index_that_faiss_cannot_build_is_refused_by_name(factory: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    with pytest.raises(ConfigError, match=rf"`export\.index`: FAISS cannot build '{factory}' over 300 items"):
        export_index.build(vectors, factory)


@pytest.mark.parametrize("name", ["nan", "no items"])
def test_unusable_item_vectors_are_refused(made_of: Sources, tmp_path: Path, name: str) -> None:
    class Diverged:
        def item_vectors(self, indices: np.ndarray) -> np.ndarray:
            return np.full((len(indices), 8), np.nan, np.float32)

    if name == "nan":
        broken, message = dataclasses.replace(made_of, model=Diverged()), "not finite"
    else:
        counts = np.zeros(ITEMS, np.int64)
        items = dataclasses.replace(made_of.vocabularies.items, counts=counts)
        vocabularies = dataclasses.replace(made_of.vocabularies, items=items)
        broken, message = dataclasses.replace(made_of, vocabularies=vocabularies), "no item to index"
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path / "bundle", Spec("bundle", 1), broken, ExportConfig(catalogue="trained"))


def test_request_encoded_otherwise_than_in_training_is_refused(bundle_path: Path, made_of: Sources) -> None:
    queries = QuerySet.draw(made_of)
    other = dataclasses.replace(queries, inputs={**queries.inputs, "age": queries.inputs["age"] + 1})
    with pytest.raises(ArtifactError, match="serving encodes `age` of user"):
        check_encoding(Bundle.open(bundle_path), other)


def test_held_out_queries_stop_before_the_test_event(made_of: Sources) -> None:
    queries = QuerySet.draw(made_of)
    for user, seen in zip(queries.users.tolist(), queries.histories, strict=True):
        assert seen.tolist() == [item for item in history(user)[:-1] if item]


def test_queries_are_drawn_alike_every_time(made_of: Sources) -> None:
    assert QuerySet.draw(made_of).users.tolist() == QuerySet.draw(made_of).users.tolist()


def clustered(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((1000, 8)).astype(np.float32)
    return vectors, rng.standard_normal((60, 8)).astype(np.float32)


def true_recall(index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, k: int) -> float:
    """Set overlap with a sort of all scores."""
    _, found = index.search(queries, k)
    best = np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1)[:, :k]
    return float(np.mean([len(set(f) & set(b)) / k for f, b in zip(found.tolist(), best.tolist(), strict=True)]))


@pytest.mark.parametrize("factory", ["IVF32,Flat", "HNSW8", "PCA4,IVF32,Flat", "PQ4x4"])
def test_measured_recall_is_the_overlap_with_brute_force(factory: str) -> None:
    vectors, queries = clustered()
    index = export_index.build(vectors, factory)
    measured = export_index.tune(index, vectors, queries, 20, 0.6)
    assert measured.value == pytest.approx(true_recall(index, vectors, queries[1::2], 20), abs=1e-6)
    assert (measured.k, measured.queries) == (20, 30)


@pytest.mark.parametrize(("factory", "name"), [("IVF32,Flat", "nprobe"), ("HNSW8", "efSearch")])
def test_search_goes_deeper_until_the_target_is_met(factory: str, name: str) -> None:
    vectors, queries = clustered()
    index = export_index.build(vectors, factory)
    loose = export_index.tune(index, vectors, queries, 20, 0.5)
    tight = export_index.tune(index, vectors, queries, 20, 0.98)
    assert tight.parameter[name] > loose.parameter[name]
    assert tight.value >= 0.98


def test_search_setting_travels_with_the_index_file(tmp_path: Path) -> None:
    vectors, queries = clustered()
    index = export_index.build(vectors, "IVF32,Flat")
    measured = export_index.tune(index, vectors, queries, 20, 0.98)
    faiss.write_index(index, str(tmp_path / "index"))
    assert faiss.read_index(str(tmp_path / "index")).nprobe == measured.parameter["nprobe"] > 1


def test_items_tied_with_the_last_one_count_as_found() -> None:
    vectors = np.ones((50, 4), np.float32)
    index = export_index.build(vectors, "Flat")
    assert export_index.tune(index, vectors, vectors[:4], 10, 0.99).value == 1.0


def test_recall_is_of_all_items_when_k_is_beyond_them() -> None:
    vectors, queries = clustered()
    index = export_index.build(vectors[:30], "Flat")
    assert export_index.tune(index, vectors[:30], queries, 500, 0.99).k == 30


def test_faiss_threads_are_given_back() -> None:
    before = faiss.omp_get_max_threads()
    export_index.build(clustered()[0], "Flat")
    assert faiss.omp_get_max_threads() == before
