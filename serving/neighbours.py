"""Lists of each item's neighbours that a bundle may carry, mapped: by sessions and by titles."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.records import Locate, map_array

Kind = Literal["session", "title"]


def file_names(kind: str) -> tuple[str, str]:
    """The files of the items and of the scores."""
    return f"neighbours_{kind}.npy", f"neighbours_{kind}_scores.npy"


@dataclass(frozen=True)
class Neighbours:
    """items: int32 [R, T], item indices, best first, 0 where there are fewer; scores: float32 [R, T].

    Row i is item index i + 1.
    """

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def read(cls, kind: str, file: Locate) -> "Neighbours":
        """Map the files of one kind."""
        items, scores = (map_array(file(name)) for name in file_names(kind))
        return cls(items, scores)

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of an item index, int32 [n], and their scores, float32 [n]."""
        there = self.items[index - 1] > 0
        return self.items[index - 1][there], self.scores[index - 1][there]
