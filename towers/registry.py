"""The towers by the name a config calls them. A new tower is one file and one line here."""

from towers.ican import IcanItemTower, IcanUserTower

TOWERS = {"ican": (IcanUserTower, IcanItemTower)}
