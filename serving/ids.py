"""String ids <-> indices, looked up in arrays that stay on disk: opening a bundle builds no table of millions."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Ids:
    """N distinct ids; the one of index 1 first, and 0 stands for an unknown one.

    values: N strings. hashes: uint32 [N], the `digest` of each, ascending. order: int32 [N], where each is in `values`.
    """

    values: pa.Array
    hashes: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, values: pa.Array) -> "Ids":
        """Hash and sort the values."""
        hashes = np.fromiter(map(digest, values.to_pylist()), np.uint32, len(values))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(values, hashes[order], order)

    def __len__(self) -> int:
        return len(self.values)

    def index(self, value: str) -> int:
        """The index of one id, 0 when unknown."""
        wanted = digest(value)
        # As a NumPy number of the same type: any other would have the whole array converted.
        place = int(self.hashes.searchsorted(np.uint32(wanted)))
        offsets, text = self._text
        while place < len(self.hashes) and self.hashes[place] == wanted:
            position = int(self.order[place])
            if text[offsets[position] : offsets[position + 1]] == encoded(value):
                return position + 1
            place += 1
        return 0

    @cached_property
    def _text(self) -> tuple[np.ndarray, memoryview]:
        """Where each value begins and ends in the UTF-8 of all: Arrow's own look-up makes objects on the way."""
        width = np.int64 if pa.types.is_large_string(self.values.type) else np.int32
        _, offsets, text = self.values.buffers()
        return np.frombuffer(offsets, width)[self.values.offset :], memoryview(text or b"").cast("B")

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Ids [n] -> indices int32 [n], 0 where unknown."""
        if len(values) < 8:
            return np.array([self.index(value) for value in values], dtype=np.int32)
        hashes = np.fromiter(map(digest, values), np.uint32, len(values))
        places = np.minimum(self.hashes.searchsorted(hashes), len(self) - 1)
        positions = self.order[places]
        found = self.values.take(pa.array(positions)).to_pylist()
        indices = [
            int(position) + 1 if other == value else self.index(value)  # rarely: its hash is another's too
            for value, other, position in zip(values, found, positions.tolist(), strict=True)
        ]
        return np.array(indices, dtype=np.int32)

    def decode(self, indices: np.ndarray) -> list[str]:
        """int [n], each in 1 .. N -> ids [n]."""
        return self.values.take(pa.array(np.asarray(indices, dtype=np.int64) - 1)).to_pylist()


def digest(value: str) -> int:
    """The CRC-32 of the id's UTF-8; part of the bundle's format."""
    return zlib.crc32(encoded(value))


def encoded(value: str) -> bytes:
    """A request may hold what no id can: a lone surrogate."""
    return value.encode("utf-8", "surrogatepass")
