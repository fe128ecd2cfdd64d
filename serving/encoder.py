"""A request -> the user tower's inputs: the same indices that training saw for the same values."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.errors import RequestError, nearest
from pipeline.vocabulary import Vocabulary

FeatureValue = str | float | Sequence[str] | None
MISSING = ""
"""The value of a user that has none: an ordinary value with an index of its own."""


@dataclass(frozen=True)
class UserField:
    """One user field the tower reads.

    Args:
      width: of a multi field, the most values the tower takes; the others are left out.
      vocabulary: of a categorical or multi field. boundaries: of a numeric one, float64, ascending.
    """

    name: str
    kind: Literal["categorical", "multi", "numeric"]
    width: int
    vocabulary: Vocabulary
    boundaries: np.ndarray

    def encode(self, value: FeatureValue) -> np.ndarray:
        """One user's value -> int32 [1], or [1, width] of a multi field. None is missing; unknown values are 0.

        Raises RequestError when the value is of the wrong type.
        """
        if self.kind == "numeric":
            return self._numeric(value)
        if self.kind == "multi":
            return self._multi(value)
        if not isinstance(value, str | None):
            raise self._refuse("a string", value)
        return np.array([self.vocabulary.index(value or MISSING)], dtype=np.int32)

    def _numeric(self, value: FeatureValue) -> np.ndarray:
        if value is None:
            return np.array([len(self.boundaries) + 2], dtype=np.int32)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < np.inf:
            raise self._refuse("a finite number", value)
        number = float(min(max(value, -sys.float_info.max), sys.float_info.max))  # JSON integers have no limit
        return np.array([1 + np.searchsorted(self.boundaries, number, side="right")], dtype=np.int32)

    def _multi(self, value: FeatureValue) -> np.ndarray:
        values = [] if value is None else value
        if isinstance(values, str | float | int) or not all(isinstance(v, str) for v in values):
            raise self._refuse("a list of strings", value)
        named = dict.fromkeys(v for v in values if v != MISSING) or {MISSING: None}
        known = [index for v in named if (index := self.vocabulary.index(v))][: self.width]
        return np.array([known + [0] * (self.width - len(known))], dtype=np.int32)

    def _refuse(self, expected: str, value: object) -> RequestError:
        return RequestError(f"feature `{self.name}` must be {expected} or null, not {type(value).__name__}")


@dataclass(frozen=True)
class UserEncoder:
    """Turns a history of item indices and feature values into the tower's inputs."""

    history_length: int
    fields: tuple[UserField, ...]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where each field is among the encoded features of a user; a multi field takes several places."""
        ends = itertools.accumulate(max(1, field.width) for field in self.fields)
        return {f.name: slice(end - max(1, f.width), end) for f, end in zip(self.fields, ends, strict=True)}

    def encode(
        self, history: np.ndarray, features: Mapping[str, FeatureValue], known: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Encode one user.

        Args:
          history: int [n], item indices without unknown ones, oldest first; the last `history_length` count.
          features: values by field name; a field that is absent is as in `known`, or missing.
          known: int32 [W], the encoded features of a known user, laid out by `columns`.
        Returns: int32 arrays by input name, batch dimension 1: `history` [1, L], left-padded with 0, and each field.
        Raises RequestError for a feature the tower does not read, or a value of the wrong type.
        """
        for name in features:
            if name not in self.columns:
                names = list(self.columns)
                raise RequestError(f"unknown feature {name!r}.{nearest(name, names)} This bundle reads {names}")
        recent = history[-self.history_length :]
        padded = np.zeros((1, self.history_length), dtype=np.int32)
        padded[0, self.history_length - len(recent) :] = recent
        inputs = {"history": padded}
        for field in self.fields:
            if known is None or field.name in features:
                inputs[field.name] = field.encode(features.get(field.name))
            else:
                encoded = known[self.columns[field.name]]
                inputs[field.name] = encoded if field.kind != "multi" else encoded[np.newaxis]  # (M) -> (1, M)
        return inputs
