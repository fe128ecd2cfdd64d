"""Retrieved items -> JSON. What is said of an item never changes, so its bytes are kept; only scores are written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from serving.records import Items

SCORE_DECIMALS = 6
MAX_KEPT = 200_000
"""Items whose bytes are kept, some 100 bytes each; popular ones come back by themselves after all were dropped."""
MAX_CHOICES = 8
"""Choices of fields for which bytes are kept."""


class ItemWriter:
    """Writes lists of one bundle's items, up to item index `size` - 1."""

    def __init__(self, items: Items, size: int) -> None:
        self._items, self._size = items, size
        self._kept: dict[_Shown, _Kept] = {}

    def write(self, indices: np.ndarray, scores: np.ndarray, fields: Sequence[str] = (), titles: bool = True) -> bytes:
        """Item indices [n] and scores float32 [n] -> `[{"item_id": ..., "title": ..., "score": ...}, ...]`.

        Raises RequestError naming the first of `fields` that the items do not have.
        """
        self._items.check_fields(fields)
        if len(indices) == 0:
            return b"[]"
        records = self._records((tuple(fields), titles), indices)
        written = orjson.dumps(np.round(scores.astype(np.float64), SCORE_DECIMALS), option=orjson.OPT_SERIALIZE_NUMPY)
        parts = [b""] * (2 * len(records))
        parts[::2] = records
        parts[1::2] = written[1:-1].split(b",")
        return b"[" + b"".join(parts)[2:] + b"}]"

    def _records(self, shown: "_Shown", indices: np.ndarray) -> list[bytes]:
        """The bytes of these items, up to the score."""
        kept = self._kept.get(shown)
        if kept is None:
            if len(self._kept) >= MAX_CHOICES:
                self._kept.pop(next(iter(self._kept)))
            kept = self._kept[shown] = _Kept(self._size)
        missing = indices[~kept.there[indices]]
        if len(missing):
            if kept.count + len(missing) > MAX_KEPT:
                kept, missing = _Kept(self._size), indices
                self._kept[shown] = kept
            kept.count += len(missing)
            fields, titles = shown
            for index, record in zip(missing.tolist(), self._items.describe(missing, fields), strict=True):
                if not titles:
                    del record["title"]
                kept.records[index] = b"}," + orjson.dumps(record)[:-1] + b',"score":'
            kept.there[missing] = True
        return kept.records[indices].tolist()


_Shown = tuple[tuple[str, ...], bool]
"""The fields of items, and whether their titles are shown too."""


class _Kept:
    """records: bytes by item index, where `there`."""

    def __init__(self, size: int) -> None:
        self.records, self.there, self.count = np.empty(size, dtype=object), np.zeros(size, dtype=bool), 0


def joined(head: dict[str, Any], items: bytes) -> bytes:
    """A JSON object: the members of `head`, of which there is at least one, and the list `items`."""
    return orjson.dumps(head)[:-1] + b',"items":' + items + b"}"
