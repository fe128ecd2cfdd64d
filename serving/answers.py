"""Retrieved items -> JSON. What is said of an item never changes, so its bytes are kept; only scores are written."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from serving import numerals
from serving.lasting import lasting
from serving.records import Items

MAX_KEPT = 200_000
"""Items whose bytes are kept, some 100 bytes each; popular ones come back by themselves after all were dropped."""
MAX_CHOICES = 8
"""Choices of fields for which bytes are kept."""
READY, STEP = 10_000, 100
"""Items whose bytes are made ready before they are asked for, and so many in one step."""
WIDEST = 16
"""Of what comes before an item's score, in words of 4 bytes, up to which all items are given the same width."""
_SPACES = np.frombuffer(b"    ", np.uint32)[0]
NOTHING = np.empty(0, np.int64)

_Shown = tuple[tuple[str, ...], bool]
"""The fields of items, and whether their titles are shown too."""


class ItemWriter:
    """Writes lists of one bundle's items, up to item index `size` - 1."""

    def __init__(self, items: Items, size: int) -> None:
        self._items, self._size = items, size
        self._kept: dict[_Shown, _Pieces | _Rows] = {}

    def write(
        self,
        head: dict[str, Any],
        indices: np.ndarray,
        scores: np.ndarray,
        fields: Sequence[str] = (),
        titles: bool = True,
    ) -> bytes:
        """A JSON object: the members of `head`, of which there is at least one, and the list `items`.

        Item indices [n] and scores float32 [n] become `[{"item_id": ..., "title": ..., "score": ...}, ...]`, scores
        with numerals.DECIMALS decimals. Raises RequestError naming the first of `fields` that the items do not have.
        """
        pieces = self._pieces(indices, scores, (tuple(fields), titles))
        return b"".join((orjson.dumps(head)[:-1], b',"items":[', *pieces, b"}]}" if len(indices) else b"]}"))

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

    def _pieces(self, indices: np.ndarray, scores: np.ndarray, shown: _Shown) -> Sequence[bytes | memoryview]:
        """The list of the items, up to the last brace."""
        kept = self._kept.get(shown)
        if kept is None:
            self._items.check_fields(shown[0])
        if len(indices) == 0:
            return ()
        places = None if kept is None else kept.places.take(indices)
        if kept is None or places is None or np.count_nonzero(places) < len(places):
            kept = self._keep(shown, indices)
            places = kept.places.take(indices)
        return kept.write(places, scores)

    def _keep(self, shown: _Shown, indices: np.ndarray) -> "_Pieces | _Rows":
        """Have the bytes of these items."""
        kept = self._kept.get(shown)
        missing = indices if kept is None else indices[kept.places[indices] == 0]
        if kept is not None and kept.count + len(missing) > MAX_KEPT:
            kept, missing = None, indices
        records = self._records(shown, missing)
        # Ids are about as long as each other; titles and fields are not.
        even = shown == ((), False) and max(map(len, records)) <= 4 * WIDEST
        if kept is None or (isinstance(kept, _Rows) and not even):
            if shown not in self._kept and len(self._kept) >= MAX_CHOICES:
                self._kept.pop(next(iter(self._kept)))
            kept = self._kept[shown] = _Rows(self._size) if even else _Pieces(self._size)
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


class _Kept:
    """The bytes of items up to their scores, each from the comma before it on, at places 1, 2, ...

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


class _Pieces(_Kept):
    """Bytes of any length: joined one by one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._records = np.empty(1, dtype=object)

    def add(self, indices: np.ndarray, records: list[bytes]) -> None:
        """Keep the records of items that are not kept yet."""
        places = self._new_places(indices)
        self._records = _with_room(self._records, self.count)
        self._records[places] = [b"}" + record for record in records]

    def write(self, places: np.ndarray, scores: np.ndarray) -> Sequence[bytes]:
        """The list of items at these places, up to the last brace."""
        return _in_turn(self._records.take(places).tolist(), scores)


class _Rows(_Kept):
    """Bytes of about one length, filled up with spaces, and room for the score behind them: one copy for all."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._table = np.empty((1, numerals.WORDS), np.uint32)

    def add(self, indices: np.ndarray, records: list[bytes]) -> None:
        """Keep the records of items that are not kept yet, of at most WIDEST words."""
        places = self._new_places(indices)
        width = max(self._table.shape[1] - numerals.WORDS, -(-max(map(len, records)) // 4))
        more = width + numerals.WORDS - self._table.shape[1]
        if more:
            front, back = np.split(self._table, [-numerals.WORDS], axis=1)
            self._table = np.hstack((front, np.full((len(front), more), _SPACES), back))
        if self.count >= len(self._table):
            larger = lasting((max(self.count + 1, 2 * len(self._table)), self._table.shape[1]), np.uint32)
            larger[: len(self._table)] = self._table
            self._table = larger
        text = b"".join(record.ljust(4 * width) for record in records)
        self._table[places, :width] = np.frombuffer(text, np.uint32).reshape(-1, width)

    def write(self, places: np.ndarray, scores: np.ndarray) -> Sequence[bytes | memoryview]:
        """The list of items at these places, up to the last brace."""
        rows = self._table.take(places, axis=0)
        if numerals.write(scores, rows):
            return (rows.data.cast("B")[1:-1],)
        return _in_turn([b"}" + row.tobytes() for row in rows[:, : -numerals.WORDS]], scores)


def _with_room(array: np.ndarray, count: int) -> np.ndarray:
    """An array with the rows of another, and room for `count` beside row 0."""
    if count < len(array):
        return array
    larger = np.empty((max(count + 1, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _in_turn(records: list[bytes], scores: np.ndarray) -> Sequence[bytes]:
    """A record, which begins with the brace of the one before, its score, and so on."""
    rounded = np.round(scores.astype(np.float64), numerals.DECIMALS)
    written = orjson.dumps(rounded, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    pieces = [b""] * (2 * len(records))
    pieces[::2], pieces[1::2] = records, written
    pieces[0] = pieces[0][len(b"},") :]
    return pieces
