"""What is said of an item before its score, kept as bytes by item index."""

from collections.abc import Sequence

import numpy as np
import orjson

from serving import numerals
from serving.lasting import lasting

READY = 10_000
"""Items that the next bundle makes ready before they are asked for."""
NOTHING = np.empty(0, np.int64)


class Kept:
    """The bytes of items from the comma before each up to its score, at places 1, 2, ...

    places: int32 [size], by item index; 0 where there is nothing.
    """

    def __init__(self, size: int) -> None:
        self.places, self.count = lasting(size, np.int32), 0
        self.first = NOTHING
        """The READY items that were kept first, int [at most READY]."""

    def _new_places(self, indices: np.ndarray) -> np.ndarray:
        if self.count < READY:
            self.first = np.concatenate((self.first, indices[: READY - self.count]))
        places = np.arange(self.count + 1, self.count + 1 + len(indices), dtype=np.int32)
        self.places[indices] = places
        self.count += len(indices)
        return places


class Pieces(Kept):
    """Bytes of any length: joined one by one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._records = np.empty(1, dtype=object)

    def add(self, indices: np.ndarray, records: Sequence[bytes]) -> None:
        """Keep the records of items that are not kept yet."""
        places = self._new_places(indices)
        if self.count >= len(self._records):
            larger = np.empty(max(self.count + 1, 2 * len(self._records)), dtype=object)
            larger[: len(self._records)] = self._records
            self._records = larger
        self._records[places] = [b"}" + record for record in records]

    def write(self, start: bytes, places: np.ndarray, scores: np.ndarray) -> bytes:
        """An object: `start`, and the items at these places, of which there is at least one."""
        return b"".join((start, *in_turn(self._records.take(places).tolist(), scores), b"}]}"))


def in_turn(records: list[bytes], scores: np.ndarray) -> Sequence[bytes]:
    """A record, which begins with the brace of the one before, its score, and so on."""
    rounded = np.round(scores.astype(np.float64), numerals.DECIMALS)
    written = orjson.dumps(rounded, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    pieces = [b""] * (2 * len(records))
    pieces[::2], pieces[1::2] = records, written
    pieces[0] = pieces[0][len(b"},") :]
    return pieces
