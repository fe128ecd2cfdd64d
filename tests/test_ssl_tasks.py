"""What every registered SSL task must do, and what each one draws and masks."""

import numpy as np
import pytest
from task_fixtures import PAIRS, cooccurrence_table, make_corpus
from tower_fixtures import ROWS, items, small_config, small_model, stateful_draws

from pipeline.errors import ArtifactError, ConfigError
from ssl_tasks.feature_masking import correlated_masks
from ssl_tasks.registry import TASKS, make_tasks
from ssl_tasks.semantic_level import NearestItems
from ssl_tasks.session_level import Cooccurrence, SessionLevel
from ssl_tasks.task import Corpus, Task, following
from towers.keras import keras, tf
from towers.randomness import at_step


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return make_corpus(tmp_path)


TAXONOMY = "tasks.semantic_level.relation=taxonomy"
VARIANTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TASKS, ()),
    "semantic_level by genre": (TAXONOMY, "tasks.semantic_level.taxonomy_field=genre"),
    "semantic_level by tags": (TAXONOMY, "tasks.semantic_level.taxonomy_field=tags"),
}
"""Every task, and each other way of one to choose its items: what all of them must do."""


def one_variant(corpus: Corpus, variant: str, *overrides: str) -> Task:
    return one_task(corpus, variant.split()[0], *VARIANTS[variant], *overrides)


def one_task(corpus: Corpus, name: str, *overrides: str) -> Task:
    settings = [f"tasks.{name}.weight=0.5", f"tasks.{name}.batch_size=24"]
    if name == "semantic_level":
        settings.append("tasks.semantic_level.top_k=4")
    (task,) = make_tasks(small_config(*settings, *overrides).tasks, corpus)
    return task


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_finite_and_trains_the_item_side_only(variant, corpus):
    keras.utils.set_random_seed(8)  # of one draw in forty, no anchor of the session task has a related item
    task = one_variant(corpus, variant)
    model = small_model(small_config(), (task,))
    with tf.GradientTape() as tape:
        loss = model.task_losses(training=True)[0]
    assert loss.shape == ()
    assert np.isfinite(float(loss))
    assert float(loss) > 0
    reached = {
        variable.name
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        )
        if gradient is not None
    }
    assert any("item_id_embedding" in variable for variable in reached)
    assert not any("user" in variable for variable in reached)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_repeats_the_loss(variant, corpus):
    def losses() -> list[float]:
        keras.utils.set_random_seed(8)
        task = one_variant(corpus, variant)
        model = small_model(small_config(), (task,))
        return [float(model.task_losses(training=True)[0]) for _ in range(3)]

    assert losses() == losses()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_step_draws_depends_on_the_seed_and_the_step_alone(variant, corpus):
    task = one_variant(corpus, variant)
    model = small_model(small_config(), (task,))

    @tf.function
    def loss(step: tf.Tensor) -> tf.Tensor:
        with at_step(4, step):
            return model.task_losses(training=True)[0]

    assert stateful_draws(loss.get_concrete_function(tf.constant(0))) == set()
    drawn = [float(loss(tf.constant(step))) for step in (7, 8, 7)]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_joint_loss_is_retrieval_plus_weight_times_task(variant, corpus):
    from tower_fixtures import batch

    config = small_config()
    task = one_variant(corpus, variant)
    model = small_model(config, (task,))
    total = model.compute_loss({key: tf.constant(value) for key, value in batch(config).items()}, training=False)
    expected = model.means["retrieval"].result() + 0.5 * model.means[task.name].result()
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_a_weight_of_zero_switches_the_task_off(name, corpus):
    assert make_tasks(small_config(f"tasks.{name}.weight=0").tasks, corpus) == []


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.needs])
def test_a_missing_artefact_is_named(name, tmp_path):
    corpus = Corpus(ROWS, items(), dict.fromkeys(TASKS[name].needs, tmp_path / "nothing"))
    with pytest.raises(ArtifactError, match=TASKS[name].needs[0]):
        one_task(corpus, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_items_are_drawn_uniformly_and_never_the_unknown_one(variant, corpus):
    keras.utils.set_random_seed(1)
    task = one_variant(corpus, variant, f"tasks.{variant.split()[0]}.batch_size=58000")
    drawn = task.draw_items().numpy()
    share = np.bincount(drawn, minlength=ROWS) / 2000  # 2000 expected each
    assert share[0] == 0
    assert share[1:] == pytest.approx(np.ones(ROWS - 1), abs=0.12)


def test_correlated_masks_take_the_seed_and_its_most_informative_half():
    information = np.array([[9, 1, 5, 3], [1, 9, 2, 7], [5, 2, 9, 4], [3, 7, 4, 9]], dtype=float)
    expected = [[1, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1]]
    # k = 4: each seed with its floor(4 / 2) = 2 most correlated others.
    assert correlated_masks(information).astype(int).tolist() == expected


def test_correlated_masks_of_two_fields_leave_something_in_both_views():
    assert correlated_masks(np.ones((2, 2))).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(("masking", "complementary"), [("correlated", True), ("random", True), ("none", False)])
def test_views_are_complementary_where_the_variant_says_so(masking, complementary, corpus):
    task = one_task(corpus, "feature_masking", f"tasks.feature_masking.masking={masking}")
    fields = [field.name for field in items().fields]
    for _ in range(10):
        first, second = (mask.numpy() for mask in task.masks(fields))
        assert np.array_equal(first, ~second) == complementary
        assert masking == "none" or (first.any() and not first.all())


def test_independent_random_masks_are_not_always_complements(corpus):
    task = one_task(corpus, "feature_masking", "tasks.feature_masking.masking=random_no_complement")
    drawn = [[mask.numpy() for mask in task.masks(["item_id", "genre", "price", "tags"])] for _ in range(40)]
    assert any(not np.array_equal(first, ~second) for first, second in drawn)


def test_no_masking_and_no_dropout_is_the_spread_out_regulariser(corpus):
    settings = [f"tasks.feature_masking.{setting}" for setting in ("masking=none", "dropout_rate=0", "temperature=1")]
    task = one_task(corpus, "feature_masking", *settings)
    model = small_model(small_config(), (task,))
    keras.utils.set_random_seed(3)
    loss = float(model.task_losses(training=True)[0])
    keras.utils.set_random_seed(3)
    vectors = model.item_vectors(task.draw_items().numpy())
    logits = vectors @ vectors.T
    assert loss == pytest.approx(float(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))), rel=1e-4)


@pytest.mark.parametrize("augmentation", ["element", "field", "categorical"])
def test_feature_level_augmentations_zero_what_they_say(augmentation, corpus):
    task = one_task(corpus, "feature_level", f"tasks.feature_level.augmentation={augmentation}")
    model = small_model(small_config(), (task,))
    drawn = tf.range(1, task.config.batch_size + 1)
    values = model.item_table(drawn)
    clean = model.item_embeddings(values)
    augmented = task.augment(model, values, clean).numpy().reshape(-1, 4, 8)
    clean = clean.numpy().reshape(-1, 4, 8)
    changed = augmented != clean
    if augmentation == "categorical":
        assert not changed[:, :3].any()
        assert changed[:, 3].any()
        return
    assert np.all(augmented[changed] == 0.0)
    assert changed.mean() == pytest.approx(0.5, abs=0.15)
    whole_fields = np.all(changed == changed[:, :, :1])
    assert whole_fields == (augmentation == "field")


def test_a_semantic_positive_is_one_of_the_neighbours_uniformly():
    keras.utils.set_random_seed(0)
    near = NearestItems(np.array([[0, 0, 0, 0], [4, 7, 9, 0], [0, 0, 0, 0]]))
    positives, valid = near.draw(tf.constant([1] * 6000 + [2]))
    share = np.bincount(positives.numpy()[:-1], minlength=10) / 2000
    assert share[[4, 7, 9]] == pytest.approx(np.ones(3), abs=0.1)
    assert share.sum() == pytest.approx(3.0)
    assert valid.numpy().tolist() == [True] * 6000 + [False]


def test_semantic_neighbours_are_read_in_row_order_and_cut_to_the_nearest(corpus):
    task = one_task(corpus, "semantic_level", "tasks.semantic_level.top_k=2")
    assert task.relation.neighbours.numpy()[[0, 1, 25]].tolist() == [[0, 0], [2, 3], [26, 27]]
    with pytest.raises(ConfigError, match=r"top_k` is 5, but title_neighbours holds 4.*Cure: raise `prepare.titles"):
        one_task(corpus, "semantic_level", "tasks.semantic_level.top_k=5")


def test_a_taxonomy_needs_no_artefact(corpus):
    task = one_variant(Corpus(ROWS, items(), {}), "semantic_level by genre")
    assert task.jobs(task.config) == ()
    assert one_task(corpus, "semantic_level").jobs(small_config().tasks.semantic_level) == ("title_neighbours",)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "null",
            r"taxonomy_field` is None, which is no categorical or multi-valued item field. There are: \['genre', 't",
        ),
        ("genres", r"Did you mean `genre`\?"),
        ("price", "no categorical"),
        ("item_id", "no categorical"),
    ],
)
def test_a_taxonomy_by_no_such_field_is_refused(corpus, field, message):
    with pytest.raises(ConfigError, match=message):
        one_task(corpus, "semantic_level", TAXONOMY, f"tasks.semantic_level.taxonomy_field={field}")


def test_a_session_positive_is_drawn_in_proportion_to_its_weight(corpus):
    keras.utils.set_random_seed(0)
    task = one_task(corpus, "session_level")
    assert isinstance(task, SessionLevel)
    positives, valid = task.draw_positive(tf.constant([1] * 8000 + [29, 6, 5]))
    assert set(positives.numpy()[:8000].tolist()) == {2, 3}
    assert np.mean(positives.numpy()[:8000] == 3) == pytest.approx(0.75, abs=0.02)
    assert valid.numpy()[8000:].tolist() == [False, False, True]
    assert positives.numpy()[8000:].tolist() == [0, 0, 4]


def test_cooccurrence_is_looked_up_exactly(corpus):
    task = one_task(corpus, "session_level")
    others = tf.tile(tf.range(ROWS)[tf.newaxis], (ROWS, 1))
    found = task.related(tf.range(ROWS), others).numpy()
    expected = np.zeros((ROWS, ROWS), dtype=bool)
    for item, (neighbours, _) in PAIRS.items():
        expected[item, neighbours] = True
    assert np.array_equal(found, expected)


def test_cooccurrence_reads_the_artefact_in_any_row_order():
    table = cooccurrence_table()
    shuffled = Cooccurrence.from_table(table.take([4, 0, 3, 1, 2]), ROWS)
    straight = Cooccurrence.from_table(table, ROWS)
    assert np.array_equal(shuffled.items, straight.items)
    assert np.array_equal(shuffled.neighbours, straight.neighbours)
    assert np.array_equal(shuffled.cumulative, straight.cumulative)


def test_following_gives_the_next_anchors_and_never_the_anchor_itself():
    assert following(4, 2).numpy().tolist() == [[1, 2], [2, 3], [3, 0], [0, 1]]
    assert following(3, 50).numpy().tolist() == [[1, 2], [2, 0], [0, 1]]
