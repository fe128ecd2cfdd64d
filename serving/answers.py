"""Retrieved items -> JSON. What is said of an item never changes, so its bytes are kept; only scores are written."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from serving.id_lists import IdLists
from serving.kept import NOTHING, Pieces
from serving.records import Items

MAX_KEPT = 200_000
"""Items whose bytes are kept, some 100 bytes each; popular ones come back by themselves after all were dropped."""
MAX_CHOICES = 8
"""Choices of fields for which bytes are kept."""
STEP = 100
"""Items whose bytes are made ready in one step, before they are asked for."""

_Shown = tuple[tuple[str, ...], bool]
"""The fields of items, and whether their titles are shown too."""


class ItemWriter:
    """Writes lists of one bundle's items, up to item index `size` - 1."""

    def __init__(self, items: Items, size: int) -> None:
        self._items, self._size = items, size
        self._kept: dict[_Shown, Pieces | IdLists] = {}

    def write(
        self,
        head: dict[str, Any],
        indices: np.ndarray,
        scores: np.ndarray,
        fields: Sequence[str] = (),
        titles: bool = True,
    ) -> bytes:
        """A JSON object: the members of `head`, of which there is at least one, and the list `items`.

        Item indices [n] and scores float32 [n], descending, become `[{"item_id": ..., "title": ..., "score": ...}]`,
        scores with numerals.DECIMALS decimals. Raises RequestError naming the first of `fields` that the items do not
        have.
        """
        shown = (tuple(fields), titles)
        kept = self._kept.get(shown)
        if kept is None:
            self._items.check_fields(fields)
        start = orjson.dumps(head)[:-1] + b',"items":['
        if len(indices) == 0:
            return start + b"]}"
        if kept is None or np.count_nonzero(places := kept.places.take(indices)) < len(places):
            kept = self._keep(shown, indices)
            places = kept.places.take(indices)
        return kept.write(start, places, scores)

    def make_ready(self, other: "ItemWriter") -> Iterator[None]:
        """Have the bytes that another writer had first, of items that are known here, in steps."""
        for shown, kept in list(other._kept.items()):
            theirs = kept.first if self._items.fields.keys() >= set(shown[0]) else NOTHING
            for start in range(0, len(theirs), STEP):
                ours, _ = self._items.split(other._items.ids.decode(theirs[start : start + STEP]))
                if shown in self._kept:
                    ours = ours[self._kept[shown].places[ours] == 0]
                if len(ours):
                    self._keep(shown, ours)
                yield

    def _keep(self, shown: _Shown, indices: np.ndarray) -> Pieces | IdLists:
        """Have the bytes of these items."""
        kept = self._kept.get(shown)
        missing = indices if kept is None else indices[kept.places[indices] == 0]
        if kept is not None and kept.count + len(missing) > MAX_KEPT:
            kept, missing = None, indices
        records = self._records(shown, missing)
        # Ids are about as long as each other; titles and fields are not.
        even = shown == ((), False) and IdLists.fit(records)
        if kept is None or (isinstance(kept, IdLists) and not even):
            if shown not in self._kept and len(self._kept) >= MAX_CHOICES:
                self._kept.pop(next(iter(self._kept)))
            kept = self._kept[shown] = IdLists(self._size) if even else Pieces(self._size)
            if len(missing) < len(indices):
                missing, records = indices, self._records(shown, indices)
        kept.add(missing, records)
        return kept

    def _records(self, shown: _Shown, indices: np.ndarray) -> list[bytes]:
        """What comes before the scores of these items."""
        fields, titles = shown
        described = self._items.describe(indices, fields)
        if not titles:
            for record in described:
                del record["title"]
        return [b"," + orjson.dumps(record)[:-1] + b',"score":' for record in described]
