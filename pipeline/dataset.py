"""User sequences -> index batches: (history, next item) pairs, expanded on the fly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.catalogue import FieldTable
from pipeline.config import Config
from pipeline.explicit_negatives import read_explicit_negatives
from pipeline.negatives import BatchNegatives
from pipeline.sequences import UserSequences
from towers import replicas
from towers.keras import tf

DAY = 86_400.0


@dataclass(frozen=True)
class Events:
    """The train events of all users, in order, without unknown items.

    items: int32 [E]. timestamps: int64 [E]. row: int64 [E], the position of the event's user in `starts`.
    starts, stops: int64 [U], user u owns events starts[u] .. stops[u]. users: int32 [U], user indices.
    """

    items: np.ndarray
    timestamps: np.ndarray
    row: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    users: np.ndarray

    @classmethod
    def train(cls, sequences: UserSequences) -> "Events":
        """The train part of every user's sequence."""
        row = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
        kept = sequences.train_rows() & (sequences.items > 0)
        row = row[kept]
        bounds = np.searchsorted(row, np.arange(len(sequences) + 1))
        return cls(sequences.items[kept], sequences.timestamps[kept], row, bounds[:-1], bounds[1:], sequences.users)


def recent_history(events: Events, positions: np.ndarray, length: int) -> np.ndarray:
    """The `length` items before each event, oldest first, left-padded with 0: int64 [n] -> int32 [n, length]."""
    places = positions[:, np.newaxis] - np.arange(length, 0, -1)  # (n, L)
    inside = places >= events.starts[events.row[positions]][:, np.newaxis]
    return np.where(inside, events.items[np.maximum(places, 0)], 0).astype(np.int32)


def other_history(events: Events, positions: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` random other train items of each event's user, with replacement: int64 [n] -> int32 [n, length]."""
    row = events.row[positions]
    starts, count = events.starts[row][:, np.newaxis], (events.stops - events.starts)[row][:, np.newaxis]
    places = starts + (rng.random((len(positions), length)) * count).astype(np.int64)
    return np.where(places == positions[:, np.newaxis], 0, events.items[places]).astype(np.int32)


class TrainDataset:
    """Batches of the train events, one example per event, in a new order each epoch.

    part: (number of this worker, number of workers), each of whom reads its share of every batch.
    """

    def __init__(
        self, config: Config, sequences: UserSequences, users: FieldTable, rows: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.part, self.config, self.events, self.users, self.rows = part, config, Events.train(sequences), users, rows
        explicit = read_explicit_negatives(config, self.events)
        self.negatives = BatchNegatives(config.loss.negatives, self.events, rows, explicit)
        self.weights = recency_weights(self.events.timestamps, config.train.half_life_days)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.events.items) // self.config.train.batch_size)

    def epoch(self, number: int, done: int = 0) -> tf.data.Dataset:
        """The batches of one epoch after the first `done`; the same number gives the same ones in the same order."""
        batches = tf.data.Dataset.from_generator(lambda: self.batches(number, done), output_signature=self.signature())
        return batches.prefetch(4)

    def batches(
        self, number: int, done: int = 0, part: tuple[int, int] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The batches as numpy arrays; see `TwoTower.compute_loss` for their content. part: instead of this worker's.

        A batch depends on `train.seed`, the epoch's number and its own place alone, so that any can be the first.
        """
        seed, size = self.config.train.seed, self.config.train.batch_size
        order = np.random.default_rng([seed, number]).permutation(len(self.events.items))
        places = np.empty(self.rows, np.int32)
        for place in range(done, len(self)):
            # From 1, because numpy's seeds (s, e) and (s, e, 0) are the same.
            rng = np.random.default_rng([seed, number, place + 1])
            batch = self._batch(order[place * size : (place + 1) * size], rng, part or self.part)
            named = np.concatenate((batch["history"].ravel(), batch["positive"]))
            yield batch | dict(zip(("distinct_items", "item_rows"), distinct_items(named, places), strict=True))

    def _batch(self, positions: np.ndarray, rng: np.random.Generator, part: tuple[int, int]) -> dict[str, np.ndarray]:
        """A worker's rows; what is drawn is drawn for all, so that a row is the same however many workers there are."""
        events, length = self.events, self.config.tower.history_length
        mine = slice(*replicas.bounds(len(positions), *part))
        if self.config.train.history_sampling == "recent":
            history = recent_history(events, positions[mine], length)
        else:
            history = other_history(events, positions, length, rng)[mine]
        positions = positions[mine]
        batch = {"history": history, "positive": events.items[positions], "weight": self.weights[positions]}
        user = events.users[events.row[positions]]
        batch |= {field.name: self.users.columns[field.name][user] for field in self.users.fields}
        return batch | self.negatives.batch(positions, rng)

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Shapes and dtypes of a batch."""
        spec = {
            "history": tf.TensorSpec((None, self.config.tower.history_length), tf.int32),
            "positive": tf.TensorSpec((None,), tf.int32),
            "weight": tf.TensorSpec((None,), tf.float32),
            "distinct_items": tf.TensorSpec((None,), tf.int32),
            "item_rows": tf.TensorSpec((None,), tf.int32),
        }
        for field in self.users.fields:
            spec[field.name] = tf.TensorSpec((None, *self.users.columns[field.name].shape[1:]), tf.int32)
        return spec | self.negatives.signature()


def distinct_items(items: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each of some items once, ascending, and where each stands among them: int32 [n] -> int32 [U], int32 [n].

    places: int32 [R], for use in between. It takes a quarter of the time of np.unique, which sorts positions, and of
    that of a hash table; ascending, because tables are read and written faster from one end to the other.
    """
    ordered = np.sort(items)
    distinct = ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(items)]]
    places[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, places.take(items)


def recency_weights(timestamps: np.ndarray, half_life_days: float | None) -> np.ndarray:
    """0.5 ** (age / half-life) against the newest event, float32 [E]; all 1 without a half-life."""
    if half_life_days is None or not len(timestamps):
        return np.ones(len(timestamps), dtype=np.float32)
    age = (timestamps.max() - timestamps) / DAY
    return np.power(0.5, age / half_life_days).astype(np.float32)


def user_inputs(
    histories: tuple[np.ndarray, np.ndarray], user_indices: np.ndarray, users: FieldTable, length: int
) -> dict[str, np.ndarray]:
    """The user tower's inputs for n users.

    Args:
      histories: (offsets int64 [n + 1], items int32), each user's items oldest first; unknown items (0) are dropped.
      user_indices: int32 [n]; 0 is the unknown user.
      users: the user table. length: L of the tower.
    Returns: `history` int32 [n, L], the L most recent items, left-padded with 0, and each user field.
    """
    offsets, items = histories
    known = items > 0
    before = np.concatenate(([0], np.cumsum(known)))
    starts, stops, kept = before[offsets[:-1]], before[offsets[1:]], items[known]
    places = stops[:, np.newaxis] - np.arange(length, 0, -1)  # (n, L)
    history = np.zeros(places.shape, dtype=np.int32)
    inside = places >= starts[:, np.newaxis]
    history[inside] = kept[places[inside]]
    return {"history": history, **{field.name: users.columns[field.name][user_indices] for field in users.fields}}
