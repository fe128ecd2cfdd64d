"""Export: what a bundle holds, what it is measured by, and what is refused."""

import dataclasses
import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from serving_fixture import ITEMS, TRAINED, USERS, config, history, make_bundle, sources, user_id, write_inputs
from tower_fixtures import batch, small_config, small_model

from pipeline.artifacts import Artifact, Spec, open_artifact
from pipeline.config import Config, ExportConfig
from pipeline.errors import ArtifactError
from pipeline.export import Model, QuerySet, Sources, check_encoding, export, publish
from pipeline.export_tower import check_parity, save_tower
from pipeline.train import load_model, train
from serving.bundle import KIND, VERSION, Bundle
from serving.retriever import Query, Retriever
from serving.tower import UserTower
from towers.keras import keras, tf
from towers.registry import TOWERS


@pytest.fixture(scope="module")
def published(bundle_path: Path) -> Artifact:
    return open_artifact(bundle_path, KIND, VERSION)


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
        "recall": {"k": 50, "value": 1.0, "queries": 19, "depth": {}, "refine": 0.0, "target": 0.99},
    }


def test_vectors_are_those_of_the_item_tower(published: Artifact, made_of: Sources) -> None:
    indices = np.load(published.file("item_indices.npy"))
    expected = made_of.model.item_vectors(indices)
    np.testing.assert_array_equal(np.load(published.file("vectors.npy")), expected)
    stored = faiss.read_index(str(published.file("index/0.faiss"))).reconstruct_n(0, len(indices))
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


def test_curve_of_the_search_is_in_the_bundle(published: Artifact) -> None:
    curve = json.loads(published.file("index_curve.json").read_text())
    assert curve["index"] == "Flat"
    assert [(point["depth"], point["recall"]) for point in curve["points"]] == [({}, 1.0)]
    assert published.file("index_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("index", ["IVF16,Flat", "IVF8,SQ8"])
def test_shards_are_opened_and_searched_as_tuned(serving_dir: Path, index: str) -> None:
    artifact = make_bundle(serving_dir, "shards", index=index, shard_items=110, recall_at=10)
    bundle = Bundle.open(artifact.path)
    assert [shard.start for shard in bundle.index.shards] == [0, 104, 208]
    depth = artifact.counts["recall"]["depth"]["nprobe"]
    assert {faiss.extract_index_ivf(shard.index).nprobe for shard in bundle.index.shards} == {depth}


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


def shapes(litert: Interpreter) -> dict[int, list[int]]:
    """The shape of every tensor of the model; those of an operation's own use have no name."""
    return {each["index"]: each["shape"].tolist() for each in litert.get_tensor_details() if each["name"]}


@pytest.mark.parametrize("kind", sorted(TOWERS))
@pytest.mark.parametrize("history_dim", ["null", "4"])
def test_no_tensor_of_a_served_tower_has_a_size_that_depends_on_values(kind: str, history_dim: str, tmp_path: Path):
    settings = small_config(f"tower.kind={kind}", f"tower.history_dim={history_dim}")
    model, arrays = small_model(settings), batch(settings)
    inputs = {name: arrays[name] for name in model.user_input_spec()}
    tensors = save_tower(model.user_tower, model.user_input_spec(), tmp_path)
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    litert = Interpreter(str(tmp_path / "user_tower.tflite"), experimental_op_resolver_type=plain)
    signature = litert.get_signature_runner().get_input_details()
    for name, values in inputs.items():
        litert.resize_tensor_input(signature[tensors[name]]["index"], values.shape)
    litert.allocate_tensors()
    planned = shapes(litert)
    for name, values in inputs.items():
        litert.set_tensor(signature[tensors[name]]["index"], values)
    litert.invoke()
    assert shapes(litert) == planned
    check_parity(model.user_tower, inputs, tensors, tmp_path)


class Scaled(keras.Model):
    """A stand-in for a user tower, with field names that no signature takes."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = self.add_weight("factor", (), initializer=keras.initializers.Constant(factor))

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.cast(inputs["history"], tf.float32) * self.factor + tf.cast(inputs["a field.ü"], tf.float32)

    serve = call


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
    with pytest.raises(ArtifactError, match=r"'PQ1x1' has recall@5 .* under the target 0\.99"):
        make_bundle(serving_dir, "refused", index="PQ1x1", recall_at=5)
    assert open_artifact(before.path, KIND, VERSION).manifest == before.manifest
    assert [path.name for path in before.path.glob("run=*")] == [before.manifest["run"]]
    Bundle.open(before.path)


def test_publishing_again_replaces_the_bundle(serving_dir: Path) -> None:
    before = make_bundle(serving_dir, "again")
    after = make_bundle(serving_dir, "again", catalogue="trained")
    assert after.path == before.path
    assert (before.counts["indexed_items"], after.counts["indexed_items"]) == (ITEMS, TRAINED)
    assert len(Bundle.open(after.path).index) == TRAINED


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
        vocabularies = dataclasses.replace(made_of.vocabularies)
        vars(vocabularies)["items"] = items  # instead of what it would read
        broken, message = dataclasses.replace(made_of, vocabularies=vocabularies), "no item to index"
    with pytest.raises(ArtifactError, match=message):
        publish(tmp_path / "bundle", Spec(KIND, VERSION), broken, ExportConfig(catalogue="trained"))


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


class TwoInterests(keras.Model):
    """A user tower that gives every user two vectors: that of another tower, and the same backwards."""

    def __init__(self, tower: keras.Model) -> None:
        super().__init__()
        self.tower = tower

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        vector = self.tower(inputs, training=training)
        return tf.stack([vector, tf.reverse(vector, axis=[1])], axis=1)  # (B, D) -> (B, 2, D)

    serve = call


class TwoInterestModel:
    """The fixture's model with such a tower."""

    def __init__(self, model: Model) -> None:
        self.user_tower = TwoInterests(model.user_tower)
        self.user_input_spec, self.item_vectors = model.user_input_spec, model.item_vectors

    def user_vectors(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.user_tower({name: tf.constant(values) for name, values in inputs.items()}).numpy()


def test_a_user_of_several_interests_gets_the_best_of_each(made_of: Sources, tmp_path: Path) -> None:
    model = TwoInterestModel(made_of.model)
    made = dataclasses.replace(made_of, model=model)
    settings = ExportConfig(index="IVF8,Flat", recall_at=20)
    bundle = Bundle.open(publish(tmp_path / "bundle", Spec(KIND, VERSION), made, settings).path)
    retriever = Retriever(bundle)
    queries = [Query(user_id(user), k=15, exclude_seen=False) for user in range(2, 12)]
    wanted = np.sort((model.user_vectors(bundle_inputs(bundle, 2, 12)) @ bundle.index.vectors.T).max(axis=1), axis=1)[
        :, ::-1
    ]
    for query, together, best in zip(queries, retriever.recommend_batch(queries), wanted, strict=True):
        alone = retriever.recommend(query)
        np.testing.assert_allclose(alone.scores, together.scores, atol=1e-5)
        assert np.isclose(alone.scores, best[:15], atol=1e-5).mean() > 0.9  # the index is approximate
        assert len(set(alone.items.tolist())) == 15


def bundle_inputs(bundle: Bundle, first: int, end: int) -> dict[str, np.ndarray]:
    """The tower's inputs of users first .. end - 1."""
    encoded = [bundle.encode(user, bundle.users.history(user), {}) for user in range(first, end)]
    return {name: np.concatenate([one[name] for one in encoded]) for name in encoded[0]}
