"""Cold start: what a tower makes of items and users that training has not seen, and how it learns to."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from serving_fixture import config as bundle_config
from serving_fixture import write_inputs
from tower_fixtures import ROWS, batch, counts, items, small_config, small_model, users

from pipeline.artifacts import open_artifact
from pipeline.catalogue import EncodedField, FieldTable
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.export import export
from pipeline.train import build, load_model, read_inputs, train
from serving.bundle import KIND, VERSION, Bundle
from serving.retriever import Query, Retriever
from towers.cold_start import ColdStart
from towers.keras import keras, tf
from towers.optimizers import RowSparseAdam
from towers.randomness import at_step
from towers.two_tower import TwoTower

GROUPS = tf.constant([0, 3, 7, 3, 9]), tf.constant([7, 7, 12, 25])


def embedded(model: TwoTower, step: int, training: bool = True) -> list[np.ndarray]:
    """What a training step makes of the items of GROUPS: float32 [n, W] each."""
    with at_step(1, tf.constant(step, tf.int64)):
        items, places = tf.unique(tf.concat(GROUPS, axis=0))
        rows = model._embed(items, training).numpy()[places.numpy()]
    return np.split(rows, [len(GROUPS[0])])


def as_if_new(model: TwoTower, item: int) -> np.ndarray:
    """The embedding of an item without what no other item with a train event has, by a loop over all items."""
    cold_start = model.cold_start
    others = [other for other in np.flatnonzero(cold_start.known.numpy()) if other != item]
    values = {}
    for name, column in cold_start.items.columns.items():
        elsewhere = {value for other in others for value in np.ravel(column[other])}
        kept = np.array([value if value in elsewhere else 0 for value in np.ravel(column[item])], np.int32)
        values[name] = tf.constant(kept.reshape(1, *column.shape[1:]))
    return model.item_embeddings(values).numpy()[0]


def test_new_items_keep_the_values_that_known_items_have():
    columns = {
        "item_id": np.arange(6, dtype=np.int32),
        "author": np.array([0, 1, 1, 2, 2, 3], np.int32),
        "tags": np.array([[0, 0], [1, 2], [2, 0], [3, 0], [1, 3], [4, 2]], np.int32),
    }
    sizes = {"item_id": ("categorical", 6), "author": ("categorical", 4), "tags": ("multi", 5)}
    fields = tuple(EncodedField(name, *kind) for name, kind in sizes.items())
    layer = ColdStart(FieldTable(fields, columns), np.array([False, True, True, False, False, False]), rate=0.1)
    table = layer.table().columns
    assert table["item_id"].tolist() == [0, 1, 2, 0, 0, 0]
    assert table["author"].tolist() == [0, 1, 1, 0, 0, 0]
    assert table["tags"].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0], [1, 0], [0, 2]]
    grown = layer.also_known(np.array([False, False, False, True, False, False])).columns
    assert grown["item_id"].tolist() == [0, 1, 2, 3, 0, 0]
    assert grown["author"].tolist() == [0, 1, 1, 2, 2, 0]
    assert grown["tags"].tolist() == [[0, 0], [1, 2], [2, 0], [3, 0], [1, 3], [0, 2]]


def test_without_id_dropout_every_item_keeps_its_own_id():
    nobody = np.zeros(ROWS, np.int64)
    model = TwoTower(small_config(), items(), users(), nobody)
    assert model.item_table.columns["item_id"].numpy().tolist() == list(range(ROWS))


def test_a_dropped_item_is_new_in_every_place():
    model = small_model(small_config("tower.id_dropout=0.5"))
    own = model.item_embeddings(model.item_table(tf.range(ROWS))).numpy()
    dropped = defaultdict(set)
    for step in range(5):
        histories, positives = embedded(model, step)
        for place, item in [*enumerate(GROUPS[0].numpy()), *enumerate(GROUPS[1].numpy(), len(GROUPS[0]))]:
            row = np.concatenate((histories, positives))[place]
            is_own = np.array_equal(row, own[item])
            assert is_own or np.array_equal(row, as_if_new(model, item))
            dropped[item, step].add(is_own)
    assert all(len(ways) == 1 for (item, _), ways in dropped.items() if item)
    assert {next(iter(ways)) for (item, _), ways in dropped.items() if item} == {True, False}
    assert [each.tolist() for each in embedded(model, 5)] == [each.tolist() for each in embedded(model, 5)]


def test_ids_are_dropped_at_the_rate_and_in_training_only():
    model = small_model(small_config("tower.id_dropout=0.25"))
    own = model.item_embeddings(model.item_table(tf.range(1, ROWS))).numpy()
    every = tf.range(1, ROWS)

    def share(training: bool) -> float:
        kept = []
        for step in range(30):
            with at_step(1, tf.constant(step, tf.int64)):
                found = model._embed(every, training)
            kept += np.all(found.numpy() == own, axis=1).tolist()
        return 1 - np.mean(kept)

    assert share(training=True) == pytest.approx(0.25, abs=0.05)  # 870 draws: a deviation is .015
    assert share(training=False) == 0


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_the_unknown_id_learns_only_with_id_dropout(rate):
    model = small_model(small_config(f"tower.id_dropout={rate}"))
    inputs = {name: tf.constant(values) for name, values in batch(model.config).items()}
    with at_step(1, tf.constant(0, tf.int64)), tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=True)
    gradient = tape.gradient(loss, model.item_embeddings.tables["item_id"])
    assert np.any(tf.convert_to_tensor(gradient).numpy()[0] != 0) == (rate > 0)


def test_a_user_who_is_dropped_is_one_without_any_field():
    table = users()
    named = FieldTable(tuple(EncodedField(f.name, f.kind, f.size, missing=1) for f in table.fields), table.columns)
    config = small_config("tower.user_dropout=0.5")
    model = TwoTower(config, items(), named, counts())
    build(model)
    inputs = {name: tf.constant(batch(config, size=40)[name]) for name in ("history", "gender", "hobbies")}
    missing = inputs | {"gender": tf.ones_like(inputs["gender"]), "hobbies": tf.constant([[1, 0]] * 40)}
    with at_step(1, tf.constant(0, tf.int64)):
        found = model.user_tower(inputs, training=True).numpy()
    ways = [model.user_tower(each).numpy() for each in (inputs, missing)]
    same = np.array([np.isclose(found, way, atol=1e-6).all(axis=1) for way in ways])
    assert same.any(axis=0).all()
    assert 8 < np.count_nonzero(same[1] & ~same[0]) < 32


def planted() -> FieldTable:
    """80 items of 4 genres, in turn; row 0 is the unknown one."""
    ids = np.arange(81, dtype=np.int32)
    fields = EncodedField("item_id", "categorical", 81), EncodedField("genre", "categorical", 5)
    return FieldTable(fields, {"item_id": ids, "genre": np.where(ids, ids % 4 + 1, 0).astype(np.int32)})


def place_of_genre(rate: float) -> float:
    """How far up the new items of a user's genre come among all new items, 0 the top; users stay with one genre."""
    keras.utils.set_random_seed(3)
    config = small_config(f"tower.id_dropout={rate}", "tower.kind=youtube_dnn", "loss.negatives.mask_clicked=false")
    seen = np.concatenate(([0], np.ones(60), np.zeros(20))).astype(np.int64)  # items 61 .. 80 are new
    model = TwoTower(config, planted(), FieldTable((), {}), seen)
    build(model)
    model.compile(optimizer=RowSparseAdam(0.02))
    random, step = np.random.default_rng(0), tf.function(model.train_step)
    for _ in range(120):
        genre = random.integers(0, 4, 64)
        clicks = (random.integers(0, 15, (64, 6)) * 4 + genre[:, np.newaxis] - 1) % 60 + 1  # the genre's, of 1 .. 60
        clicks = clicks.astype(np.int32)
        step({"history": clicks[:, :5], "positive": clicks[:, 5], "weight": np.ones(64, np.float32)})
    histories = np.array([[g, g + 4, g + 8, g + 12, g + 16] for g in range(1, 5)], np.int32)
    scores = model.user_vectors({"history": histories}) @ model.item_vectors(np.arange(61, 81, dtype=np.int32)).T
    order = np.argsort(-scores, axis=1) + 61
    return float(np.mean([np.flatnonzero(order[user] % 4 == (user + 1) % 4).mean() / 20 for user in range(4)]))


def test_new_items_of_the_users_genre_come_first_once_ids_are_dropped():
    assert place_of_genre(0.3) == pytest.approx(0.1)  # five of twenty: the places 0 .. 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Config:
    settings = bundle_config(tmp_path_factory.mktemp("cold"))
    settings.train.max_epochs, settings.tower.id_dropout, settings.tower.user_dropout = 1, 0.2, 0.2
    write_inputs(settings)
    train(settings)
    export(settings)
    return settings


def cold_items(settings: Config) -> np.ndarray:
    return np.flatnonzero(read_inputs(settings).counts[1:] == 0) + 1


def test_new_items_are_indexed_by_the_unknown_id_and_their_fields(exported: Config):
    model, cold = load_model(exported), cold_items(exported)
    bundle = open_artifact(exported.bundle_dir, KIND, VERSION)
    vectors, fields = np.load(bundle.file("vectors.npy")), read_inputs(exported).items
    assert len(cold) > 20
    for item in cold[:10]:
        expected = model.encode_items(as_if_new(model, item)[np.newaxis]).numpy()[0]
        assert vectors[bundle_row(bundle.file("item_indices.npy"), item)] == pytest.approx(expected, abs=1e-5)
    alike = defaultdict(list)
    for item in cold:
        alike[tuple(np.concatenate([np.ravel(c[item]) for n, c in fields.columns.items() if n != "item_id"]))] += [item]
    assert len(alike) > 3
    distinct = np.unique(np.round(model.item_vectors(cold.astype(np.int32)), 5), axis=0)
    assert len(distinct) == len(alike)


def bundle_row(file: Path, item: int) -> int:
    return int(np.flatnonzero(np.load(file) == item)[0])


def test_new_items_can_be_retrieved_and_asked_with(exported: Config):
    bundle = Bundle.open(exported.bundle_dir)
    retriever, cold = Retriever(bundle), cold_items(exported)
    new_ids = bundle.items.ids.decode(cold)
    everything = retriever.recommend(Query(history=("nobody's",), k=300))
    listed = set(bundle.items.ids.decode(everything.items))
    assert set(new_ids) <= listed
    nothing = retriever.recommend(Query(history=(), k=300))
    assert nothing.scores.tolist() == everything.scores.tolist()  # an unknown item says nothing
    of_new = retriever.recommend(Query(history=tuple(new_ids[:3]), k=10))
    assert of_new.scores.tolist() != nothing.scores[:10].tolist()


def test_id_dropout_needs_something_beside_the_id(exported: Config):
    update = {"item_fields": ["item_id"]}
    refused = exported.model_copy(update={"name": "no", "tower": exported.tower.model_copy(update=update)})
    with pytest.raises(ConfigError, match=r"`tower\.id_dropout` hides the ids .*Cure: more `tower\.item_fields`"):
        train(refused)
