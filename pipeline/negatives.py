"""What a batch carries for its negatives: uniform draws, what its users clicked, what they saw and left alone."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.config_loss import NegativesConfig
from pipeline.explicit_negatives import ExplicitNegatives
from towers.keras import tf

if TYPE_CHECKING:
    from pipeline.dataset import Events


class BatchNegatives:
    """Adds to each batch what `towers.negatives.Negatives` needs.

    Args:
      config: the `loss.negatives` section.
      events: the train events.
      rows: R, items plus the unknown one.
      explicit: needed when `config.explicit` is not 0.
    """

    def __init__(
        self, config: NegativesConfig, events: "Events", rows: int, explicit: ExplicitNegatives | None
    ) -> None:
        self.config, self.events, self.rows, self.explicit = config, events, rows, explicit
        self.clicked, self.bounds = clicked_items(events)

    def batch(self, positions: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """For the events at `positions`, int64 [B]; see `TwoTower.compute_loss`."""
        config, user = self.config, self.events.row[positions]
        batch: dict[str, np.ndarray] = {}
        if config.uniform:
            batch["uniform_negatives"] = rng.integers(1, self.rows, config.uniform, dtype=np.int32)
        if config.mask_clicked:
            batch["clicked"], batch["clicked_by"] = self._clicked(user)
        if self.explicit is not None and config.explicit:
            batch["explicit_negatives"] = self.explicit.before(positions, user, config.explicit)
        if config.hard.count:
            batch["user_row"] = user.astype(np.int32)
        return batch

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Shapes and dtypes of what `batch` gives."""
        config, spec = self.config, {}
        if config.uniform:
            spec["uniform_negatives"] = tf.TensorSpec((config.uniform,), tf.int32)
        if config.mask_clicked:
            spec["clicked"] = spec["clicked_by"] = tf.TensorSpec((None,), tf.int32)
        if self.explicit is not None and config.explicit:
            spec["explicit_negatives"] = tf.TensorSpec((None, config.explicit), tf.int32)
        if config.hard.count:
            spec["user_row"] = tf.TensorSpec((None,), tf.int32)
        return spec

    def _clicked(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items that the users of a batch clicked in training, and the place of each one's user: int32 [P] each."""
        lengths = self.bounds[user + 1] - self.bounds[user]
        # Place k of the output is bounds[user i + 1] - (where the items of user i end in it) + k.
        shift = np.repeat(self.bounds[user + 1] - np.cumsum(lengths), lengths)
        by = np.repeat(np.arange(len(user), dtype=np.int32), lengths)
        return self.clicked[np.arange(len(shift)) + shift], by


def clicked_items(events: "Events") -> tuple[np.ndarray, np.ndarray]:
    """Each user's distinct train items: int32 [P] ascending, user u's at bounds[u] .. bounds[u + 1], int64 [U + 1]."""
    if not len(events.items):
        return events.items, np.zeros(len(events.starts) + 1, dtype=np.int64)
    size = int(events.items.max()) + 1
    distinct = np.unique(events.row * size + events.items)
    return (distinct % size).astype(np.int32), np.searchsorted(distinct, np.arange(len(events.starts) + 1) * size)
