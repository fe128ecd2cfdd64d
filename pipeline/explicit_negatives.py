"""Explicit negatives: what the log says a user saw and left alone, or disliked (`source.keep_negatives`)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.tables import EVENTS, Tables
from pipeline.write_events import NEGATIVES

if TYPE_CHECKING:
    from pipeline.dataset import Events


@dataclass(frozen=True)
class ExplicitNegatives:
    """Explicit negatives of the users of the train events, each user's in the order of time.

    items: int32 [N]. starts: int64 [U], where those of user u begin. upto: int64 [E], where those of the user of train
    event e end that are no later than the event.
    """

    items: np.ndarray
    starts: np.ndarray
    upto: np.ndarray

    @classmethod
    def match(
        cls, events: "Events", rows: np.ndarray, items: np.ndarray, timestamps: np.ndarray
    ) -> "ExplicitNegatives":
        """From unordered negatives of known items.

        Args: rows int64 [n], the position of the negative's user in `events.starts`; items int32 [n], indices;
          timestamps int64 [n], Unix seconds. An item that the user clicked in training is left out.
        """
        size = int(max(items.max(initial=0), events.items.max(initial=0))) + 1
        kept = ~np.isin(rows * size + items, events.row * size + events.items)
        rows, items, timestamps = rows[kept], items[kept], timestamps[kept]
        order = np.lexsort((items, timestamps, rows))
        rows, items, timestamps = rows[order], items[order], timestamps[order]
        # One key for (user, time): times are seconds since 1970, so that users do not overlap.
        span = int(max(timestamps.max(initial=0), events.timestamps.max(initial=0))) + 1
        upto = np.searchsorted(rows * span + timestamps, events.row * span + events.timestamps, side="right")
        return cls(items, np.searchsorted(rows, np.arange(len(events.starts))), upto)

    def before(self, positions: np.ndarray, users: np.ndarray, count: int) -> np.ndarray:
        """The last `count` negatives up to each train event, oldest first, left-padded with 0.

        Args: positions int64 [B], events; users int64 [B], their users' rows. Returns: int32 [B, count].
        """
        places = self.upto[positions][:, np.newaxis] - np.arange(count, 0, -1)  # (B, count)
        inside = places >= self.starts[users][:, np.newaxis]
        found = np.zeros(places.shape, dtype=np.int32)
        found[inside] = self.items[places[inside]]
        return found


def read_explicit_negatives(config: Config, events: "Events") -> ExplicitNegatives | None:
    """The explicit negatives of the log, or None when the configuration asks for none.

    What is no later than a user's last train event alone is ever used, so nothing of a later part leaks.
    Raises: ConfigError when the tables hold none.
    """
    if not config.loss.negatives.explicit:
        return None
    tables = Tables.read(config.tables_dir)
    parts = [path for file in tables.event_files for path in tables.open_events(file).parts(NEGATIVES)]
    if not parts:
        raise ConfigError(
            "`loss.negatives.explicit`: the tables hold no explicit negatives. Cure: set `source.keep_negatives` and "
            "import again, or set it to 0"
        )
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    table = pa.concat_tables([EVENTS.empty_table(), *map(pq.read_table, parts)])
    users, items = (
        vocabulary.encode(table[name])
        for vocabulary, name in ((vocabularies.users, "user_id"), (vocabularies.items, "item_id"))
    )
    row_of = np.full(vocabularies.users.size, -1, dtype=np.int64)
    row_of[events.users] = np.arange(len(events.users))
    rows = row_of[users]
    kept = (rows >= 0) & (items > 0) & (users > 0)
    return ExplicitNegatives.match(events, rows[kept], items[kept], table["timestamp"].to_numpy()[kept])
