"""What every registered tower must do, and the model around it."""

import numpy as np
import pytest
from tower_fixtures import ROWS, batch, items, small_config, small_model

from pipeline.errors import ConfigError
from towers.blocks import unit_norm
from towers.embeddings import FieldEmbeddings
from towers.keras import keras, tf
from towers.optimizers import RowSparseAdam
from towers.registry import TOWERS
from towers.two_tower import TwoTower

KINDS = [f"tower.kind={kind}" for kind in sorted(TOWERS)]
ORDER_FREE = {"tower.kind=youtube_dnn"}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in arrays.items()}


def user_inputs(model: TwoTower, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: arrays[name] for name in model.user_input_spec()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", ["true", "false"])
def test_vectors_have_the_configured_size_and_are_finite(kind, normalize):
    keras.utils.set_random_seed(1)  # with other weights all ten units of a layer may be 0 for an item
    config = small_config(kind, f"tower.normalize={normalize}")
    model = small_model(config)
    users = model.user_vectors(user_inputs(model, batch(config)))
    vectors = model.item_vectors(np.arange(ROWS, dtype=np.int32))
    assert users.shape == (7, 6)
    assert vectors.shape == (ROWS, 6)
    assert np.all(np.isfinite(users))
    assert np.all(np.isfinite(vectors))
    if normalize == "true":
        assert np.linalg.norm(users, axis=1) == pytest.approx(np.ones(7), rel=1e-5)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(ROWS), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_every_variable(kind):
    config = small_config(kind, "tower.history_dim=4")
    model, inputs = small_model(config), batch(config)
    with tf.GradientTape() as tape:
        value = model.compute_loss(tensors(inputs), training=True)
    gradients = tape.gradient(value, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.any(tf.convert_to_tensor(gradient).numpy() != 0), variable.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_alone_gets_the_vector_it_gets_in_a_batch(kind):
    config = small_config(kind)
    model = small_model(config)
    inputs = user_inputs(model, batch(config))
    alone = model.user_vectors({name: values[2:3] for name, values in inputs.items()})
    assert alone[0] == pytest.approx(model.user_vectors(inputs)[2], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(kind):
    """The embedding of index 0 may be anything: where it stands only for padding, no vector changes."""
    config = small_config(kind)
    model = small_model(config)
    inputs = user_inputs(model, batch(config))
    before = model.user_vectors(inputs)
    table = model.item_embeddings.tables["item_id"]
    table.assign(tf.tensor_scatter_nd_update(table, [[0]], [[9.0] * 8]))
    assert model.user_vectors(inputs) == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_history_matters_where_it_should(kind):
    config = small_config(kind)
    model = small_model(config)
    inputs = user_inputs(model, batch(config))
    reversed_history = inputs | {"history": inputs["history"][:, ::-1].copy()}
    same = model.user_vectors(inputs)[3] == pytest.approx(model.user_vectors(reversed_history)[3], abs=1e-4)
    assert same == (kind in ORDER_FREE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shared_embedding_of_a_batch_changes_no_vector(kind):
    """Training embeds each distinct item once; serving embeds every place. Both must agree."""
    config = small_config(kind, "loss.logq=none", "loss.negatives.mask_clicked=false", "tower.normalize=false")
    model, inputs = small_model(config), batch(config)
    users = model.user_vectors(user_inputs(model, inputs)).astype(np.float64)
    vectors = model.item_vectors(inputs["positive"]).astype(np.float64)
    logits = users @ vectors.T / config.loss.temperature
    same = inputs["positive"][:, None] == inputs["positive"]
    logits[same & ~np.eye(7, dtype=bool)] = -np.inf
    losses = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - np.diag(logits)
    expected = np.average(losses, weights=inputs["weight"])
    assert float(model.compute_loss(tensors(inputs))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_a_seed_repeats_it(kind):
    def losses() -> list[float]:
        keras.utils.set_random_seed(4)
        config = small_config(kind, "tower.dropout=0.1", "tower.history_dropout=0.2")
        model, inputs = small_model(config), tensors(batch(config))
        model.compile(optimizer=RowSparseAdam(0.01))
        return [float(model.train_step(inputs)["loss"]) for _ in range(25)]

    first = losses()
    assert np.mean(first[-5:]) < np.mean(first[:5])
    assert losses() == first


@pytest.mark.parametrize("kind", KINDS)
def test_saved_weights_restore_the_same_vectors(kind, tmp_path):
    config = small_config(kind)
    model, restored = small_model(config), small_model(config)
    tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    tf.train.Checkpoint(model=restored).read(str(tmp_path / "weights")).assert_existing_objects_matched()
    inputs = user_inputs(model, batch(config))
    assert np.array_equal(restored.user_vectors(inputs), model.user_vectors(inputs))


def test_the_youtube_dnn_tower_is_the_mlp_of_the_mean_of_the_history():
    config = small_config("tower.kind=youtube_dnn", "tower.normalize=false")
    model, history = small_model(config), np.array([[0, 0, 3, 7, 3]], np.int32)
    user = {"gender": np.zeros(1, np.int32), "hobbies": np.zeros((1, 2), np.int32)}
    embedded = model.item_embeddings(model.item_table(tf.constant([3, 7, 3]))).numpy().mean(0)
    fields = model.user_tower.user_embeddings(tensors(user)).numpy()[0]
    expected = model.user_tower.tower.mlp(np.concatenate((embedded, fields))[np.newaxis])
    assert model.user_vectors({"history": history, **user}) == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_multi_valued_field_is_the_mean_of_its_values():
    layer = FieldEmbeddings(items().fields, 8)
    values = {name: column[:4] for name, column in items().columns.items()} | {
        "tags": np.array([[2, 3, 0], [5, 0, 0], [0, 0, 0], [1, 2, 4]], np.int32)
    }
    embedded = layer(tensors(values)).numpy().reshape(4, 4, 8)
    table = layer.tables["tags"].numpy()
    expected = [table[[2, 3]].mean(0), table[5], np.zeros(8), table[[1, 2, 4]].mean(0)]
    assert embedded[:, 3] == pytest.approx(np.stack(expected), abs=1e-6)
    assert layer(tensors(values), fixed=True).numpy() == pytest.approx(embedded.reshape(4, 32), abs=1e-6)


def test_a_masked_field_becomes_its_default_embedding():
    layer = FieldEmbeddings(items().fields, 8, maskable=True)
    values = tensors(items().columns)
    clean = layer(values).numpy().reshape(ROWS, 4, 8)
    masked = layer(values, mask=tf.constant([True, False, True, False])).numpy().reshape(ROWS, 4, 8)
    assert np.array_equal(masked[:, [1, 3]], clean[:, [1, 3]])
    assert np.array_equal(masked[:, [0, 2]], np.broadcast_to(layer.default.numpy()[[0, 2]], (ROWS, 2, 8)))


def test_an_unknown_tower_field_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"`tower.item_fields`: no field 'gener'. Did you mean `genre`\?"):
        small_model(small_config("tower.item_fields=[item_id, gener]"))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_a_vector_of_no_length_stays_zero_and_gets_no_gradient(dtype):
    vectors = tf.constant([[0.0, 0.0], [3.0, 4.0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        unit = unit_norm(vectors)
        loss = tf.reduce_sum(tf.cast(unit, tf.float32) * [[5.0, 7.0], [1.0, 0.0]])
    assert unit.numpy() == pytest.approx(np.array([[0, 0], [0.6, 0.8]]), abs=1e-3)
    assert tape.gradient(loss, vectors).numpy() == pytest.approx(np.array([[0, 0], [0.128, -0.096]]), abs=1e-3)
