"""The machines of a run, as TF_CONFIG tells each of them: all addresses, and which of them it is itself."""

import json
import os
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError

VARIABLE = "TF_CONFIG"
ROLES = {"multi_worker": {"chief", "worker"}, "parameter_server": {"chief", "worker", "ps"}}
"""`train.distribute` -> the roles of its tasks."""


@dataclass(frozen=True)
class Cluster:
    """addresses: host:port of every task, by role. role, place: those of this process."""

    addresses: dict[str, list[str]]
    role: str
    place: int

    @classmethod
    def from_environment(cls, kind: str) -> "Cluster":
        """What TF_CONFIG says; `kind` is that of `train.distribute`. Raises ConfigError when it is missing or wrong."""
        text = os.environ.get(VARIABLE)
        if not text:
            raise ConfigError(
                f"`train.distribute` is {kind}, but {VARIABLE} is not set. Cure: start `twotower train` once for every "
                f"task, each with the cluster and its own place in {VARIABLE} (docs/training.md)"
            )
        try:
            return cls._checked(kind, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{VARIABLE} is not what `train.distribute` {kind} needs ({type(error).__name__}: {error}). Cure: "
                '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, for parameter '
                'servers with "chief": ["host:port"] and "ps": ["host:port", ...] in the cluster (docs/training.md)'
            ) from None

    @classmethod
    def _checked(cls, kind: str, found: dict[str, Any]) -> "Cluster":
        addresses, task = found["cluster"], found["task"]
        cluster = cls({role: list(tasks) for role, tasks in addresses.items()}, task["type"], int(task["index"]))
        for role in cluster.addresses:
            if role not in ROLES[kind]:
                raise ValueError(f"no task is of the type {role!r}; there are {sorted(ROLES[kind])}")
        needed = ["worker"] if kind == "multi_worker" else ["chief", "worker", "ps"]
        for role in needed:
            if not cluster.addresses.get(role):
                raise ValueError(f"the cluster has no {role!r}")
        if not 0 <= cluster.place < len(cluster.addresses.get(cluster.role, [])):
            raise ValueError(f"the cluster has no {cluster.role!r} {cluster.place}")
        return cluster

    @property
    def serves(self) -> bool:
        """Whether this process only does what the chief tells it."""
        return "ps" in self.addresses and self.role != "chief"

    @property
    def workers(self) -> int:
        """How many processes train together, the chief among them."""
        return len(self.addresses.get("chief", [])) + len(self.addresses["worker"])

    @property
    def number(self) -> int:
        """The place of this one among them; 0 is the chief."""
        return self.place if self.role == "chief" else self.place + len(self.addresses.get("chief", []))

    def __str__(self) -> str:
        return f"{self.role} {self.place} at {self.addresses[self.role][self.place]}"
