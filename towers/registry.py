"""The towers by the name a config calls them. A new tower is one file and one line here."""

from towers.ican import IcanItemTower, IcanUserTower
from towers.keras import keras
from towers.youtube_dnn import YoutubeDnnUserTower

TOWERS: dict[str, tuple[type[keras.layers.Layer], type[keras.layers.Layer]]] = {
    "ican": (IcanUserTower, IcanItemTower),
    "youtube_dnn": (YoutubeDnnUserTower, IcanItemTower),
}
"""User tower, item tower."""
