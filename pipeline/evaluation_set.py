"""What is evaluated: the users of one phase, what each had seen before it, and what each did in it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.config import SplitConfig
from pipeline.errors import ConfigError
from pipeline.metrics import popularity_deciles
from pipeline.sequences import UserSequences
from pipeline.split import cut, time_bounds

Phase = Literal["validation", "test"]
Candidates = Literal["trained", "catalogue"]
Users = Literal["known", "cold"]
FEW = 4
"""Clicks of an item, or events of a user, up to which little can be learned from them."""
NEW_SHARE = 0.01
"""Of the targets: fewer new items say nothing."""


@dataclass(frozen=True)
class EvaluationSet:
    """U users with H history events and T targets, all in flat arrays; user u owns offsets[u] .. offsets[u + 1].

    users: int32 [U], user indices. request_times: int64 [U], when the list is asked for: the start of the phase
      in a `time` split, just after the last event of the history in `leave_last_out`.
    history_*: offsets int64 [U + 1], items int32 [H] (oldest first, 0 = unknown), timestamps int64 [H]:
      every event before the phase, so the validation part too when the phase is `test`.
    target_*: offsets int64 [U + 1], items int32 [T], timestamps int64 [T]. An item counts once a user, at its first
      event; unknown ones (0) cannot be told apart and count each. `duplicates` says how many events that merged.
    candidates: int32 [C], the items a list may hold, most frequent in training first, then by index.
    counts: int64 [R], train events of every item index.
    """

    phase: Phase
    users: np.ndarray
    request_times: np.ndarray
    history_offsets: np.ndarray
    history_items: np.ndarray
    history_timestamps: np.ndarray
    target_offsets: np.ndarray
    target_items: np.ndarray
    target_timestamps: np.ndarray
    duplicates: int
    candidates: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def build(
        cls,
        sequences: UserSequences,
        item_count: int,
        split: SplitConfig,
        phase: Phase = "test",
        candidates: Candidates = "trained",
        users: Users = "known",
    ) -> "EvaluationSet":
        """Take the users with a target in the phase and, before it, at least one event (`known`) or none (`cold`).

        Args:
          item_count: R, the size of the item vocabulary with index 0.
          candidates: `trained` = items with a train event; `catalogue` = every item but the unknown one.
        """
        counts = np.bincount(sequences.items[sequences.train_rows()], minlength=item_count)
        counts[0] = 0
        start, stop = phase_bounds(sequences, phase)
        seen_anything = start > sequences.offsets[:-1]
        chosen = np.flatnonzero((stop > start) & (seen_anything == (users == "known")))
        history, history_offsets = _gather(sequences.offsets[:-1][chosen], start[chosen])
        targets, target_offsets = _gather(start[chosen], stop[chosen])
        kept = _first_of_each(sequences.items[targets], target_offsets, item_count)
        kept_before = np.concatenate(([0], np.cumsum(kept)))
        return cls(
            phase=phase,
            users=sequences.users[chosen],
            request_times=_request_times(sequences.timestamps, start[chosen], split, phase),
            history_offsets=history_offsets,
            history_items=sequences.items[history],
            history_timestamps=sequences.timestamps[history],
            target_offsets=kept_before[target_offsets],
            target_items=sequences.items[targets[kept]],
            target_timestamps=sequences.timestamps[targets[kept]],
            duplicates=int(np.count_nonzero(~kept)),
            candidates=_candidates(counts, candidates),
            counts=counts,
        )

    def of_new_items(self) -> "EvaluationSet":
        """The pairs whose target has no train event, with all such items as candidates and no others."""
        new = self.counts[self.target_items] == 0
        new &= self.target_items > 0
        pairs = np.bincount(self.target_rows[new], minlength=len(self))
        rows = np.flatnonzero(pairs)
        history, history_offsets = _gather(self.history_offsets[:-1][rows], self.history_offsets[1:][rows])
        return replace(
            self,
            users=self.users[rows],
            request_times=self.request_times[rows],
            history_offsets=history_offsets,
            history_items=self.history_items[history],
            history_timestamps=self.history_timestamps[history],
            target_offsets=np.concatenate(([0], np.cumsum(pairs[rows]))),
            target_items=self.target_items[new],
            target_timestamps=self.target_timestamps[new],
            duplicates=0,
            candidates=(np.flatnonzero(self.counts[1:] == 0) + 1).astype(np.int32),
        )

    @cached_property
    def positions(self) -> np.ndarray:
        """int32 [R]: the place of each item index in `candidates`, -1 for items that are none."""
        positions = np.full(len(self.counts), -1, np.int32)
        positions[self.candidates] = np.arange(len(self.candidates), dtype=np.int32)
        return positions

    @cached_property
    def target_rows(self) -> np.ndarray:
        """int64 [T]: which user (0 .. U - 1) owns each pair."""
        return np.repeat(np.arange(len(self)), np.diff(self.target_offsets))

    def history_positions(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The history of users start .. stop as (row counted from start int64 [h], candidate position int32 [h]).

        In order, oldest first; items that are no candidates are left out.
        """
        first, last = self.history_offsets[start], self.history_offsets[stop]
        rows = np.repeat(np.arange(stop - start), np.diff(self.history_offsets[start : stop + 1]))
        positions = self.positions[self.history_items[first:last]]
        return rows[positions >= 0], positions[positions >= 0]

    @cached_property
    def target_seen(self) -> np.ndarray:
        """bool [T]: the target is already in its user's history. It is removed from the list, hence a miss."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.history_offsets))
        seen = np.isin(
            self.target_rows * len(self.counts) + self.target_items, rows * len(self.counts) + self.history_items
        )
        return seen & (self.target_items != 0)

    @cached_property
    def deciles(self) -> np.ndarray:
        """int8 [T]: the popularity decile of each target, 0 = head, -1 = never seen in training."""
        return popularity_deciles(self.counts)[self.target_items]

    @cached_property
    def gaps(self) -> np.ndarray:
        """int64 [T]: seconds from the last event of the user's history to the target; -1 for cold users."""
        known = np.diff(self.history_offsets) > 0
        last = np.full(len(self), -1, np.int64)
        last[known] = self.history_timestamps[self.history_offsets[1:][known] - 1]
        return np.where(known[self.target_rows], self.target_timestamps - last[self.target_rows], -1)


def slices(deciles: np.ndarray, gaps: np.ndarray, gap_seconds: int | None) -> dict[str, np.ndarray]:
    """The pairs of each slice, bool [T] by name.

    head: the target is among the 10 % most frequent train items; tail: the other trained items; unseen: no train
    event (head + tail + unseen = all pairs); gap: the target came at least `gap_seconds` after the last known event.
    """
    parts = {"head": deciles == 0, "tail": deciles > 0, "unseen": deciles < 0}
    if gap_seconds is not None:
        parts[f"gap >= {gap_seconds} s"] = gaps >= gap_seconds
    return parts


def cold_start_slices(evaluation_set: EvaluationSet) -> dict[str, np.ndarray]:
    """The pairs by how much was known in training of the item, and before the request of the user: bool [T] by name."""
    clicks = evaluation_set.counts[evaluation_set.target_items]
    events = np.diff(evaluation_set.history_offsets)[evaluation_set.target_rows]
    slices = {
        "item never seen": clicks == 0,
        f"item of 1-{FEW} clicks": (clicks > 0) & (clicks <= FEW),
        f"item of {FEW + 1}+ clicks": clicks > FEW,
        "user without history": events == 0,
        f"user of 1-{FEW} events": (events > 0) & (events <= FEW),
        f"user of {FEW + 1}+ events": events > FEW,
    }
    return {name: mask for name, mask in slices.items() if mask.any()}


def evaluated_parts(
    sequences: UserSequences, item_count: int, split: SplitConfig, phase: Phase
) -> dict[str, EvaluationSet]:
    """Every part of a report: `trained`, and where new items or users matter also the others.

    trained: known users, items with a train event. catalogue: known users, all items, so that a model that reads
    item fields may find new ones. new_items: the targets without a train event among all such items. Both in a `time`
    split, or with NEW_SHARE of the targets new. cold_users: users without a history (of a `time` split, left out when
    there are none), trained items.
    """
    parts = {"trained": EvaluationSet.build(sequences, item_count, split, phase)}
    catalogue = EvaluationSet.build(sequences, item_count, split, phase, candidates="catalogue")
    new = catalogue.of_new_items()
    if split.kind == "time" or len(new.target_items) > NEW_SHARE * len(catalogue.target_items):
        parts["catalogue"] = catalogue
        if len(new):
            parts["new_items"] = new
    if split.kind == "time":
        cold = EvaluationSet.build(sequences, item_count, split, phase, users="cold")
        if len(cold):
            parts["cold_users"] = cold
    return parts


def before_refit(sequences: UserSequences, split: SplitConfig) -> tuple[UserSequences, SplitConfig]:
    """The same events cut with a validation part of its own, to choose settings on after `split.refit`.

    Raises ConfigError when the split leaves no validation part.
    """
    if split.kind == "time" and split.validation_start is None:
        raise ConfigError("there is no validation part to choose on. Cure: set `split.validation_start`")
    apart = split.model_copy(update={"refit": False})
    train_end, validation_end = cut(sequences.timestamps, sequences.offsets, apart)
    return (
        UserSequences(
            sequences.users, sequences.offsets, sequences.items, sequences.timestamps, train_end, validation_end
        ),
        apart,
    )


def phase_bounds(sequences: UserSequences, phase: Phase) -> tuple[np.ndarray, np.ndarray]:
    """Where each user's targets begin and end, int64 [users], counted from the first event of all."""
    validation_end = sequences.offsets[:-1] + sequences.validation_end
    if phase == "validation":
        return sequences.offsets[:-1] + sequences.train_end, validation_end
    return validation_end, sequences.offsets[1:]


def _gather(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the ranges starts[i] .. stops[i] one after the other, and their offsets."""
    lengths = stops - starts
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets


def _first_of_each(items: np.ndarray, offsets: np.ndarray, item_count: int) -> np.ndarray:
    """bool [n]: the first event of each (user, item), and every event of an unknown item."""
    pairs = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * item_count + items
    first = np.zeros(len(items), bool)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first | (items == 0)


def _request_times(timestamps: np.ndarray, start: np.ndarray, split: SplitConfig, phase: Phase) -> np.ndarray:
    if split.kind == "time":
        return np.full(len(start), time_bounds(split)[phase == "test"], np.int64)
    return timestamps[start - 1] + 1


def _candidates(counts: np.ndarray, kind: Candidates) -> np.ndarray:
    order = np.argsort(-counts[1:], kind="stable") + 1
    return (order[counts[order] > 0] if kind == "trained" else order).astype(np.int32)
