"""How far one log is from another: relative change, divergence of distributions, and what is new.

A counted table has the columns value: string and count: int64, each value once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs import blocks
from beam_jobs.batch_files import read_batch
from pipeline.config import ReportConfig
from pipeline.storage import Location

ID_SAMPLE = 1 << 16
DRAWS = 10


@dataclass(frozen=True)
class Sample:
    """What is compared of a log.

    users: how many have an event. items: a counted table of events. fields: by `side.name`, a counted table of each
    categorical or multi-valued field, in which a value counts once per event that carries it.
    """

    events: int
    users: int
    items: pa.Table
    fields: dict[str, pa.Table]


@dataclass(frozen=True)
class Line:
    """One comparison. kind `change`: now against before, relative; `divergence`: in bits, 0 to 1; `new`: a share.

    value: None where there is nothing to compare. chance: the divergence that two samples of one distribution would
    show, None where it is not known.
    """

    what: str
    kind: Literal["change", "divergence", "new"]
    value: float | None
    before: int | None = None
    now: int | None = None
    chance: float | None = None

    def exceeds(self, limits: ReportConfig) -> bool:
        if self.value is None:
            return False
        if self.kind == "change":
            return abs(self.value) > limits.warn_change
        if self.kind == "divergence":
            return self.value - (self.chance or 0.0) > limits.warn_divergence
        return self.value > limits.warn_new


# ---- formulas


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """JSD(P || Q) = H((P + Q) / 2) - (H(P) + H(Q)) / 2 in bits (Lin 1991, Divergence Measures Based on the Shannon
    Entropy): 0 for equal distributions, 1 for those that share no value.

    p, q: counts or shares [n] of the same values, each with a positive sum.
    """
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(np.clip((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2, 0.0, 1.0))


def _relative_entropy(p: np.ndarray, middle: np.ndarray) -> float:
    """KL(P || M) in bits; the mean of both is the JSD, without the difference of large entropies."""
    some = p > 0
    return float((p[some] * np.log2(p[some] / middle[some])).sum())


def chance_divergence(p: np.ndarray, q: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """The mean JSD when the events of both are shuffled and dealt out again: what sampling alone explains.

    p, q: int64 counts [n]. Each event goes to the first side with the probability of its share. Events count as
    independent of each other; those of one user are not, so that the truth is somewhat higher.
    """
    both, share = p + q, p.sum() / (p.sum() + q.sum())
    random, found = np.random.default_rng(seed), []
    for _ in range(draws):
        left = random.binomial(both, share)
        if 0 < left.sum() < both.sum():
            found.append(jensen_shannon(left, both - left))
    return float(np.mean(found)) if found else 0.0


def relative_change(now: int, before: int) -> float | None:
    """(now - before) / before; None when there was nothing before."""
    return (now - before) / before if before else None


def aligned(a: pa.Table, b: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Two counted tables -> their counts of the values of either, int64 [n] both, 0 where one lacks a value."""
    values = pa.concat_arrays([column.cast(pa.string()).combine_chunks() for column in (a["value"], b["value"])])
    codes, _ = blocks.dictionary(values.dictionary_encode())
    size = codes.max(initial=-1) + 1
    counts = np.zeros((2, size), np.int64)
    counts[0, codes[: len(a)]] = a["count"].to_numpy()
    counts[1, codes[len(a) :]] = b["count"].to_numpy()
    return counts[0], counts[1]


def new_share(now: pa.Table, known: pa.Table) -> float | None:
    """The share of the events of `now` on values that `known` has no event of; None without events."""
    events, before = aligned(now, known)
    return float(events[before == 0].sum() / events.sum()) if events.sum() else None


# ---- users, as a sample of bounded size


def id_sample(ids: pa.Array, size: int = ID_SAMPLE) -> np.ndarray:
    """The `size` smallest hashes of distinct ids, ascending: uint64 [<= size].

    A bottom-k sketch (Cohen and Kaplan 2007, Summarizing Data Using Bottom-k Sketches): since a hash is the same in
    every log, the sketches of two logs hold the same users as far as both reach.
    """
    return np.sort(blocks.string_hash(ids))[:size]


def new_id_share(now: np.ndarray, before: np.ndarray, size: int = ID_SAMPLE) -> float | None:
    """The share of ids of one `id_sample` that another log lacks: exact while both have fewer than `size` ids."""
    reach = min((sample[-1] for sample in (now, before) if len(sample) >= size), default=np.iinfo(np.uint64).max)
    within = now[now <= reach]
    return float(1 - np.isin(within, before).mean()) if len(within) else None


# ---- the events of a day


@dataclass(frozen=True)
class Ids:
    """The users and the items of some events: counted tables, largest first."""

    users: pa.Table
    items: pa.Table

    @property
    def events(self) -> int:
        return pc.sum(self.items["count"]).as_py() or 0


def count_ids(parts: Sequence[Location]) -> Ids:
    """Count the ids of some parts of coded events; memory grows with the distinct ids of a part."""
    nothing = pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
    users, items = [nothing], [nothing]
    for columns in _id_columns(parts):
        for tables, column in zip((users, items), columns, strict=True):
            codes, values = blocks.dictionary(column)
            counts = np.bincount(codes, minlength=len(values)).astype(np.int64)
            tables.append(pa.table({"value": values.cast(pa.string()), "count": counts}))
    return Ids(blocks.sum_strings(users), blocks.sum_strings(items))


def seen(ids: Ids, parts: Sequence[Location]) -> tuple[np.ndarray, np.ndarray]:
    """Which users and which items have an event in other parts too: bool [users], bool [items]."""
    users, items = np.zeros(len(ids.users), bool), np.zeros(len(ids.items), bool)
    for columns in _id_columns(parts):
        for found, table, column in zip((users, items), (ids.users, ids.items), columns, strict=True):
            known = blocks.dictionary(column)[1].cast(pa.string())
            found |= pc.is_in(table["value"], value_set=known).to_numpy()
    return users, items


def _id_columns(parts: Sequence[Location]) -> Iterator[tuple[pa.ChunkedArray, pa.ChunkedArray]]:
    for part in parts:
        table = read_batch(part)
        yield table["user_id"], table["item_id"]


# ---- all of it


def compare(now: Sample, before: Sample, new_items: float | None, new_users: float | None, chance: bool) -> list[Line]:
    """Every line of a comparison.

    new_items: the share of events on new items; new_users: the share of users that are new. chance: whether the two
    are separate samples, so that `chance_divergence` means something; logs that overlap are closer than chance.
    """
    lines = [
        Line(what, "change", relative_change(b, a), a, b)
        for what, a, b in (
            ("events", before.events, now.events),
            ("users", before.users, now.users),
            ("items", len(before.items), len(now.items)),
        )
    ]
    distributions = {"popularity of items": (now.items, before.items)}
    distributions |= {
        f"{side} field {name}": (table, before.fields[key])
        for key, table in now.fields.items()
        if key in before.fields
        for side, _, name in [key.partition(".")]
    }
    for what, (a, b) in distributions.items():
        p, q = aligned(a, b)
        if p.sum() and q.sum():
            by_chance = chance_divergence(p, q) if chance else None
            lines.append(Line(what, "divergence", jensen_shannon(p, q), chance=by_chance))
    lines.append(Line("events on new items", "new", new_items))
    lines.append(Line("new users", "new", new_users))
    return lines
