"""Where the items of a bundle lie in two dimensions."""

from dataclasses import dataclass

import numpy as np

from serving.records import Locate, map_array

ITEMS, POINTS = "map_items.npy", "map_points.npy"


@dataclass(frozen=True)
class ItemMap:
    """A sample of the items. items: int32 [M], item indices; points: float32 [M, 2], in -1 .. 1. method: how drawn."""

    items: np.ndarray
    points: np.ndarray
    method: str

    @classmethod
    def read(cls, method: str, file: Locate) -> "ItemMap":
        """Map the files of the map."""
        return cls(map_array(file(ITEMS)), map_array(file(POINTS)), method)
