"""Hard negatives: what the model, as it stands, ranks highest for a user among the items the user has not clicked."""

from collections.abc import Callable, Iterator

import faiss
import numpy as np

from pipeline.config_loss import HardNegativesConfig
from pipeline.dataset import TrainDataset, user_inputs
from pipeline.errors import ConfigError
from pipeline.progress import bar
from towers.two_tower import TwoTower

USERS_AT_ONCE = 4096
TRIED = 10_000
"""Random vectors behind the check of an index, at most: enough for codes, and trained on at once."""


def hard_negative_mining(model: TwoTower, dataset: TrainDataset) -> Callable[[int], None]:
    """A function to be called before every training step with the number of steps before it; it mines when due.

    The mined items lie in a variable of the model, so that a checkpoint holds them; mining twice at a step changes
    nothing. Without `loss.negatives.hard.count` the function does nothing.

    Raises ConfigError at once for an index that FAISS would refuse when it is time to mine.
    """
    config = model.config.loss.negatives.hard
    if not config.count:
        return lambda step: None
    _check_index(config, len(np.unique(dataset.events.items)), model.config.tower.hidden[-1])
    mined = model.negatives.keep_mined(len(dataset.events.users))
    every = config.every_steps or len(dataset)

    def before_step(step: int) -> None:
        if step and step % every == 0:
            mined.assign(mine(model, dataset, config))

    return before_step


def mine(model: TwoTower, dataset: TrainDataset, config: HardNegativesConfig) -> np.ndarray:
    """The hard negatives of every user: int32 [U, count], best first, 0 where there are no more.

    A user is encoded from all of its train history; the items searched are those with a train event. `skip` counts
    among the items the user has not clicked. Raises ConfigError when FAISS refuses the index.
    """
    items = np.unique(dataset.events.items)
    index = _index(model.item_vectors(items), config)
    hard = np.zeros((len(dataset.events.users), config.count), dtype=np.int32)
    for users, most in bar(list(_groups(dataset.negatives.bounds)), desc="hard negatives", unit="group", delay=1.0):
        # However many of the best were clicked, enough are left.
        _, found = index.search(
            _user_vectors(model, dataset, users), min(most + config.skip + config.count, len(items))
        )
        ranked = np.where(found >= 0, items[found], 0)
        new = (ranked > 0) & ~_clicked(dataset, users, ranked)
        place = np.cumsum(new, axis=1) - 1 - config.skip
        row, column = np.nonzero(new & (place >= 0) & (place < config.count))
        hard[users[row], place[row, column]] = ranked[row, column]
    return hard


def _groups(bounds: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Users with a train event, those with alike many clicked items together: (rows int64 [n], most clicked items)."""
    clicked = np.diff(bounds)
    order = np.argsort(clicked, kind="stable")
    order = order[clicked[order] > 0]
    for start in range(0, len(order), USERS_AT_ONCE):
        users = order[start : start + USERS_AT_ONCE]
        yield users, int(clicked[users[-1]])


def _check_index(config: HardNegativesConfig, items: int, dim: int) -> None:
    """Build an index of as many random vectors, or of some of them if they are many."""
    count = min(items, TRIED)
    try:
        inverted = faiss.try_extract_index_ivf(faiss.index_factory(dim, config.index, faiss.METRIC_INNER_PRODUCT))
    except RuntimeError as error:
        raise _refusal(config, items, error) from None
    if inverted is None or inverted.nlist <= count or inverted.nlist > items:
        _index(np.random.default_rng(0).standard_normal((count, dim), np.float32), config)


def _index(vectors: np.ndarray, config: HardNegativesConfig) -> faiss.Index:
    try:
        index = faiss.index_factory(vectors.shape[1], config.index, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        raise _refusal(config, len(vectors), error) from None
    if (inverted := faiss.try_extract_index_ivf(index)) is not None:
        inverted.nprobe = min(config.probes, inverted.nlist)
    return index


def _refusal(config: HardNegativesConfig, items: int, error: RuntimeError) -> ConfigError:
    reason = str(error).rsplit(": ", 1)[-1]
    return ConfigError(
        f"`loss.negatives.hard.index`: FAISS cannot build {config.index!r} over {items} items: {reason}. Cure: `Flat`, "
        "or fewer cells"
    )


def _user_vectors(model: TwoTower, dataset: TrainDataset, users: np.ndarray) -> np.ndarray:
    """float32 [n, D] of users by their row in `events`."""
    events, length = dataset.events, model.config.tower.history_length
    lengths = np.minimum((events.stops - events.starts)[users], length)
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) + np.repeat(events.stops[users] - ends, lengths)
    histories = (np.concatenate(([0], ends)), events.items[places])
    return model.user_vectors(user_inputs(histories, events.users[users], dataset.users, length))


def _clicked(dataset: TrainDataset, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Which items each user clicked in training: rows int64 [n], items int [n, k] -> bool [n, k]."""
    clicked, bounds = dataset.negatives.clicked, dataset.negatives.bounds
    lengths = bounds[users + 1] - bounds[users]
    ends = np.cumsum(lengths)
    own = clicked[np.arange(lengths.sum()) + np.repeat(bounds[users + 1] - ends, lengths)]
    size = int(max(own.max(initial=0), items.max(initial=0))) + 1
    local = np.arange(len(users))
    return np.isin(local[:, np.newaxis] * size + items, np.repeat(local, lengths) * size + own)
