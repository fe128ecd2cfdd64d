"""Retrieved items -> JSON. What is said of an item never changes, so its bytes are kept; only scores are written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from serving.records import Items

SCORE_DECIMALS = 6
MAX_KEPT = 200_000
"""Items whose bytes are kept, some 100 bytes each; popular ones come back by themselves after all were dropped."""


class ItemWriter:
    """Writes lists of one bundle's items."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._kept: dict[tuple[str, ...], dict[int, bytes]] = {}
        self._count = 0

    def write(self, indices: np.ndarray, scores: np.ndarray, fields: Sequence[str] = ()) -> bytes:
        """Item indices [n] and scores float32 [n] -> `[{"item_id": ..., "title": ..., "score": ...}, ...]`.

        Raises RequestError naming the first of `fields` that the items do not have.
        """
        self._items.check_fields(fields)
        names = tuple(fields)
        numbers = indices.tolist()
        if not numbers:
            return b"[]"
        kept = self._records(names, numbers)
        written = orjson.dumps(np.round(scores.astype(np.float64), SCORE_DECIMALS), option=orjson.OPT_SERIALIZE_NUMPY)
        parts = [b""] * (2 * len(numbers))
        parts[::2] = [kept[number] for number in numbers]
        parts[1::2] = written[1:-1].split(b",")
        return b"[" + b"".join(parts)[2:] + b"}]"

    def _records(self, names: tuple[str, ...], numbers: list[int]) -> dict[int, bytes]:
        """The bytes of at least these items with these fields, up to the score."""
        kept = self._kept.setdefault(names, {})
        missing = [number for number in numbers if number not in kept]
        if self._count + len(missing) > MAX_KEPT:
            kept, missing, self._count = {}, numbers, 0
            self._kept = {names: kept}
        if missing:
            self._count += len(missing)
            for number, record in zip(missing, self._items.describe(np.array(missing), names), strict=True):
                kept[number] = b"}," + orjson.dumps(record)[:-1] + b',"score":'
        return kept


def joined(head: dict[str, Any], items: bytes) -> bytes:
    """A JSON object: the members of `head`, of which there is at least one, and the list `items`."""
    return orjson.dumps(head)[:-1] + b',"items":' + items + b"}"
