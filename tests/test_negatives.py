"""What every kind of negatives must do: the loss of a loop, no masked item in it, gradients for both towers."""

import numpy as np
import pytest
from negative_kinds import KINDS
from tower_fixtures import ROWS, batch, counts, small_config, small_model

from pipeline.errors import ConfigError
from towers.keras import tf
from towers.negatives import Negatives

DIM, SIZE = 6, 7
MINED = np.array([[12, 3, 8], [5, 9, 0], [0, 0, 0], [14, 25, 2], [1, 2, 3], [27, 28, 0], [6, 6, 7]], np.int32)
Inputs = dict[str, tf.Tensor]


def inputs_of(seed: int = 3) -> Inputs:
    return {name: tf.constant(values) for name, values in batch(small_config(), SIZE, seed).items()}


def vectors_of(negatives: Negatives, inputs: Inputs, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Users [B, D] and the vectors of `negatives.items(inputs)`; an item has the same one wherever it stands."""
    rng = np.random.default_rng(seed)
    users, catalogue = rng.normal(size=(SIZE, DIM)), rng.normal(size=(ROWS, DIM))
    items = negatives.items(inputs)
    return users.astype(np.float32), [catalogue[group.numpy()].astype(np.float32) for group in items]


def negatives_of(kind: str, *settings: str) -> Negatives:
    """Negatives that have seen a batch, with mined ones."""
    negatives = Negatives(small_config(*KINDS[kind], *settings, "loss.temperature=0.7").loss, counts(), DIM)
    if negatives.sources.hard.count:
        negatives.keep_mined(SIZE).assign(MINED)
    before = inputs_of(seed=8)
    negatives.loss(*vectors_of(negatives, before, 1), before, training=True)
    return negatives


def known_to(row: int, inputs: Inputs, sources) -> set[int]:
    """What no shared negative of a user may be."""
    known = {int(inputs["positive"][row])}
    known |= set(inputs["explicit_negatives"][row].numpy().tolist()) if sources.explicit else set()
    known |= set(MINED[row].tolist()) if sources.hard.count else set()
    by = inputs["clicked_by"].numpy()
    return known | (set(inputs["clicked"].numpy()[by == row].tolist()) if sources.mask_clicked else set())


def columns_of(negatives: Negatives, vectors: list[np.ndarray], inputs: Inputs) -> list[tuple[int, np.ndarray, float]]:
    """(item, vector, frequency) of every shared negative."""
    groups = []
    if negatives.sources.in_batch:
        groups.append((inputs["positive"], vectors[0]))
    if negatives.sources.uniform:
        groups.append((inputs["uniform_negatives"], vectors[1]))
    columns = [
        (int(item), vector, float(negatives.frequency.probability(item[tf.newaxis])[0]))
        for items, part in groups
        for item, vector in zip(items, part, strict=True)
    ]
    if negatives.queue is not None:
        vectors_then, items, frequency = (part.numpy() for part in negatives.queue.read())
        columns += [(int(i), v, float(q)) for i, v, q in zip(items, vectors_then, frequency, strict=True) if i > 0]
    return columns


def own_of(negatives: Negatives, row: int, inputs: Inputs) -> dict[int, float]:
    """The weight of each explicit or mined negative of a user; the first of an item counts."""
    sources, found = negatives.sources, {}
    explicit = inputs["explicit_negatives"][row].numpy().tolist() if sources.explicit else []
    mined = MINED[row].tolist() if sources.hard.count else []
    for items, weight in ((explicit, sources.explicit_weight), (mined, sources.hard.weight)):
        for item in items:
            if item not in (0, int(inputs["positive"][row])):
                found.setdefault(item, weight)
    return found


def oracle(negatives: Negatives, users: np.ndarray, vectors: list[np.ndarray], inputs: Inputs) -> float:
    """The loss, term by term."""
    sources, columns = negatives.sources, columns_of(negatives, vectors, inputs)
    queued = int(np.count_nonzero(negatives.queue.read()[1])) if negatives.queue is not None else 0
    drawn = queued + (SIZE - 1 if sources.in_batch else 0)
    vector_of = {int(i): v for group, part in zip(negatives.items(inputs), vectors, strict=True)
                 for i, v in zip(group.numpy(), part, strict=True)}  # fmt: skip
    losses = []
    for row, user in enumerate(users.astype(np.float64)):
        known = known_to(row, inputs, sources)
        positive = np.exp(user @ vectors[0][row] / 0.7)
        total = positive
        for item, vector, frequency in columns:
            if item not in known:
                total += np.exp(user @ vector / 0.7) / (drawn * frequency + sources.uniform / (ROWS - 1))
        for item, weight in own_of(negatives, row, inputs).items():
            total += weight * np.exp(user @ vector_of[item] / 0.7)
        losses.append(np.log(total / positive))
    return float(np.average(losses, weights=inputs["weight"].numpy()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask_clicked", ["true", "false"])
def test_the_loss_is_that_of_a_loop_over_every_term(kind, mask_clicked):
    negatives, inputs = negatives_of(kind, f"loss.negatives.mask_clicked={mask_clicked}"), inputs_of()
    users, vectors = vectors_of(negatives, inputs, 2)
    loss = negatives.loss(users, vectors, inputs, training=False)
    assert float(loss) == pytest.approx(oracle(negatives, users, vectors, inputs), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 2, 3])
def test_what_a_user_knows_is_no_shared_negative(kind, row):
    """Its probability is exactly 0: its vector may be anything, and the loss of that user stays the same."""
    negatives, inputs = negatives_of(kind), inputs_of()
    users, vectors = vectors_of(negatives, inputs, 2)
    inputs["weight"] = tf.one_hot(row, SIZE)
    before = float(negatives.loss(users, vectors, inputs, training=False))
    known = known_to(row, inputs, negatives.sources)

    def spoilt(items: np.ndarray, part: np.ndarray, hidden: bool) -> np.ndarray:
        chosen = np.isin(items, list(known)) == hidden
        return np.where(chosen[:, np.newaxis], users[row] * 1e3, part)

    shared = range(1 + (negatives.sources.uniform > 0))
    items = [group.numpy() for group in negatives.items(inputs)]
    for hidden in (True, False):
        changed = [spoilt(items[i], part, hidden) if i in shared else part for i, part in enumerate(vectors)]
        changed[0][row] = vectors[0][row]  # the positive itself
        kept = None
        if negatives.queue is not None:
            kept = negatives.queue.vectors.numpy()
            negatives.queue.vectors.assign(spoilt(negatives.queue.items.numpy(), kept, hidden))
        after = float(negatives.loss(users, changed, inputs, training=False))
        assert (after == pytest.approx(before, rel=1e-6)) == hidden
        if kept is not None:
            negatives.queue.vectors.assign(kept)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_finite_and_its_gradient_reaches_both_towers(kind):
    model, inputs = small_model(small_config(*KINDS[kind])), inputs_of()
    if model.negatives.sources.hard.count:
        model.negatives.keep_mined(SIZE).assign(MINED)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, training=True)
    assert np.isfinite(float(loss))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.all(np.isfinite(values)), variable.name
        assert np.any(values != 0), variable.name


def test_logq_on_all_gives_the_batch_softmax_of_yi():
    """l_ij = s_ij - log q_j for every item of the batch, the positive too."""
    settings = ("loss.logq=all", "loss.negatives.mask_clicked=false")
    negatives, inputs = negatives_of("in_batch", *settings), inputs_of()
    users, vectors = vectors_of(negatives, inputs, 2)
    positive = inputs["positive"].numpy()
    logits = users @ vectors[0].T / np.float64(0.7) - np.log(counts() / counts().sum() + 1e-300)[positive]
    logits[(positive[:, None] == positive) & ~np.eye(SIZE, dtype=bool)] = -np.inf
    losses = np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)
    expected = np.average(losses, weights=inputs["weight"].numpy())
    assert float(negatives.loss(users, vectors, inputs, training=False)) == pytest.approx(expected, rel=1e-4)


def test_without_logq_uniform_negatives_give_the_sampled_softmax_of_micrec():
    """Xie et al. 2022, eq. 7: the positive and the draws count alike; what the user clicked is left out."""
    negatives, inputs = negatives_of("uniform", "loss.logq=none"), inputs_of()
    users, vectors = vectors_of(negatives, inputs, 2)
    scores, draws = np.sum(users * vectors[0], axis=1) / 0.7, users @ vectors[1].T / np.float64(0.7)
    items = inputs["uniform_negatives"].numpy()
    for row in range(SIZE):
        draws[row, np.isin(items, list(known_to(row, inputs, negatives.sources)))] = -np.inf
    losses = np.log(np.exp(scores) + np.exp(draws).sum(axis=1)) - scores
    expected = np.average(losses, weights=inputs["weight"].numpy())
    assert float(negatives.loss(users, vectors, inputs, training=False)) == pytest.approx(expected, rel=1e-4)


def test_a_user_alone_in_its_batch_has_no_in_batch_negatives():
    negatives = Negatives(small_config().loss, counts(), DIM)
    inputs = {name: tensor[:1] for name, tensor in inputs_of().items()}
    inputs["clicked"] = inputs["positive"]
    loss = negatives.loss(np.ones((1, DIM), np.float32), [np.ones((1, DIM), np.float32)], inputs, training=True)
    assert float(loss) == 0.0


def test_no_source_of_negatives_is_refused():
    with pytest.raises(ConfigError, match=r"there are no negatives to begin with\. Cure: set `in_batch`"):
        small_config("loss.negatives.in_batch=false", "loss.negatives.queue=100")
