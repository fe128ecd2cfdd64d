"""A vocabulary: the only translation between string ids and the int32 indices used inside.

Index 0 is "unknown or padding" in every vocabulary; known values have 1 .. size - 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage import Location, open_parquet


@dataclass(frozen=True)
class Vocabulary:
    """Values in index order (the value of index 1 first) with their counts in the training data.

    `values`: N strings; `counts`: int64 [N]. `size` is N + 1, index 0 included.
    """

    values: pa.StringArray
    counts: np.ndarray

    @property
    def size(self) -> int:
        return len(self.values) + 1

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(_objects(self.values), dtype=object)

    def index(self, value: str) -> int:
        """The index of one value, 0 when unknown."""
        return int(self._index.get_indexer([value])[0]) + 1

    def value(self, index: int) -> str:
        """The value of an index in 1 .. size - 1. Raises IndexError outside."""
        if not 1 <= index < self.size:
            raise IndexError(f"index {index} is outside 1 .. {self.size - 1}")
        return self.values[index - 1].as_py()

    def encode(self, values: pa.Array | pa.ChunkedArray | Iterable[str]) -> np.ndarray:
        """Strings [n] -> int32 [n]; unknown and null values become 0."""
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(list(values), pa.string())
        if len(values) * 4 < len(self.values):
            # A few at a time, maybe often: a table that is kept beats one that Arrow builds of all values each time.
            return (self._index.get_indexer(_objects(values)) + 1).astype(np.int32)
        found = pc.index_in(values.cast(pa.string()), value_set=self.values)
        return np.asarray(pc.fill_null(pc.add(found, 1), 0), dtype=np.int32)

    def decode(self, indices: np.ndarray) -> pa.Array:
        """int [n], each in 1 .. size - 1 -> strings [n]."""
        return self.values.take(pa.array(np.asarray(indices, dtype=np.int64) - 1))

    def write(self, path: Path | str) -> None:
        """Write as Parquet with columns value: string, count: int64."""
        pq.write_table(pa.table({"value": self.values, "count": pa.array(self.counts, pa.int64())}), path)

    @classmethod
    def read(cls, path: Location | str) -> "Vocabulary":
        table = open_parquet(path).read()
        values = table["value"].combine_chunks().cast(pa.string())
        return cls(values, table["count"].to_numpy().astype(np.int64))

    @classmethod
    def from_counts(cls, values: list[str], counts: Iterable[int]) -> "Vocabulary":
        """Order by count, largest first, then by value, so that the result does not depend on input order."""
        array = np.asarray(list(counts), dtype=np.int64)
        order = sorted(range(len(values)), key=lambda i: (-array[i], values[i]))
        return cls(pa.array([values[i] for i in order], pa.string()), array[order])


def _objects(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Strings [n] -> Python strings, object [n]; a null is None."""
    return values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
