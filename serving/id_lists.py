"""Lists of ids and scores as JSON: only ids and scores are written, into a list that has all the rest already."""

from collections.abc import Sequence

import numpy as np

from serving import numerals
from serving.kept import Kept, in_turn
from serving.lasting import lasting

WIDEST = 64
"""Bytes of an id's JSON and the comma after it, up to which all ids are given the same width."""
MAX_LISTS = 8
"""Lists that are kept to be written again."""
_BEFORE, _AFTER = b',{"item_id":', b'"score":'
_FIRST = _BEFORE[1:]
_BETWEEN = _AFTER + numerals.ZERO + _BEFORE
_SPACES = np.frombuffer(b" " * 8, np.uint64)[0]


class IdLists(Kept):
    """Ids of about one length, filled up with spaces to words of 8 bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._words = 1
        # Rows of 1, 2, 4 or 8 words, uint64: NumPy takes rows of up to 32 bytes twice as fast as those of other widths.
        self._table = np.empty((1, 1), np.uint64)
        self._lists: dict[tuple[int, bool], _List] = {}
        """By their length, and whether all scores ever written are shares."""

    @staticmethod
    def fit(records: Sequence[bytes]) -> bool:
        """Whether these records, of ids alone, are of ids no longer than WIDEST."""
        return max(map(len, records)) <= len(_BEFORE) + WIDEST + len(_AFTER)

    def add(self, indices: np.ndarray, records: Sequence[bytes]) -> None:
        """Keep the records of items that are not kept yet, which fit."""
        places = self._new_places(indices)
        ids = [record[len(_BEFORE) : -len(_AFTER)] for record in records]
        self._widen(-(-max(map(len, ids)) // 8))
        rows, words = self._table.shape
        if self.count >= rows:
            larger = lasting((max(self.count + 1, 2 * rows), words), np.uint64)
            larger[:rows] = self._table
            self._table = larger
        text = b"".join([id.ljust(8 * words) for id in ids])
        self._table[places] = np.frombuffer(text, np.uint64).reshape(-1, words)

    def _widen(self, words: int) -> None:
        if words > self._words:
            self._words = words
            self._lists.clear()
        while self._table.shape[1] < words:
            self._table = np.hstack((self._table, np.full_like(self._table, _SPACES)))

    def write(self, start: bytes, places: np.ndarray, scores: np.ndarray) -> bytes:
        """An object: `start`, and the items at these places, of which there is at least one."""
        ids, shares = self._table.take(places, axis=0), numerals.are_shares(scores)
        form = self._lists.get((len(places), shares)) or self._new_list(len(places), shares)
        if numerals.write(scores, form.numerals, shares):
            for word, column in enumerate(form.ids):
                column[...] = ids[:, word]
            return b"".join((start, _FIRST, form.text, b"]}"))
        return b"".join((start, *in_turn([b"}" + _BEFORE + row.tobytes() + _AFTER for row in ids], scores), b"}]}"))

    def _new_list(self, size: int, shares: bool) -> "_List":
        if len(self._lists) >= MAX_LISTS:
            self._lists.pop(next(iter(self._lists)))
        form = self._lists[size, shares] = _List(size, self._words)
        return form


class _List:
    """A list of `size` items as JSON, whose ids and scores are to be written.

    text: from behind what is before the first id, to the last brace. ids: for each word of the ids a column of the
    text, uint64 [size]. numerals: those of numerals.write.
    """

    def __init__(self, size: int, words: int) -> None:
        row = b" " * (8 * words) + _BETWEEN
        text = bytearray(row * size)

        def column(dtype: type[np.generic], start: int) -> np.ndarray:
            return np.ndarray(size, dtype, text, start, (len(row),))

        scores = 8 * words + len(_AFTER)
        self.text = memoryview(text)[: -len(_BEFORE)]
        self.ids = [column(np.uint64, 8 * word) for word in range(words)]
        self.numerals = [column(np.uint32, scores + 4 * word) for word in range(numerals.WORDS)]
