"""The baselines on real data land on the figures that other implementations reached on the same protocols.

The loader here is independent of the importers and of the Beam jobs; what it shares with them is how events are
ordered and cut.
"""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.baselines import Ease, gram_matrix, popularity, recent_popularity
from pipeline.config import SplitConfig
from pipeline.evaluation_set import EvaluationSet
from pipeline.metrics import coverage, hits, recall
from pipeline.ranking import Score, evaluate
from pipeline.sequences import UserSequences
from pipeline.split import cut, order_events, parse_time
from pipeline.vocabulary import Vocabulary

AT = [10, 50, 100, 200, 500]
WITHIN = 0.001
Protocol = tuple[UserSequences, EvaluationSet]


def user_sequences(
    user_ids: list[str], item_ids: list[str], timestamps: list[int], split: SplitConfig, min_events: int
) -> tuple[UserSequences, int]:
    """The sequences of all users with enough events, and the size of the item vocabulary."""
    _, users, events = np.unique(user_ids, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(events[users] >= min_events)
    users, times = users[kept], np.asarray(timestamps)[kept]
    user_ids, item_ids = [user_ids[i] for i in kept], [item_ids[i] for i in kept]
    order = order_events(users, times, lambda rows: ([user_ids[r] for r in rows], [item_ids[r] for r in rows]))
    present, lengths = np.unique(users, return_counts=True)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    train_end, validation_end = cut(times[order], offsets, split)
    distinct, codes = np.unique(item_ids, return_inverse=True)
    sequences = UserSequences(
        present.astype(np.int32) + 1, offsets, codes[order], times[order], train_end, validation_end
    )
    counts = np.bincount(sequences.items[sequences.train_rows()], minlength=len(distinct))
    vocabulary = Vocabulary.from_counts(distinct.tolist(), counts)
    index = vocabulary.encode(distinct.tolist())
    return UserSequences(
        sequences.users, offsets, index[sequences.items], sequences.timestamps, train_end, validation_end
    ), vocabulary.size


@pytest.fixture(scope="module")
def ml1m(shared_data: Path) -> Protocol:
    rows = [line.split("::") for line in (shared_data / "ml-1m" / "ratings.dat").read_text().splitlines()]
    users, items, times = zip(*((u, i, int(t)) for u, i, rating, t in rows if int(rating) >= 4), strict=True)
    sequences, size = user_sequences(list(users), list(items), list(times), SplitConfig(), 5)
    return sequences, EvaluationSet.build(sequences, size, SplitConfig())


@pytest.fixture(scope="module")
def ifdb(shared_data: Path) -> Protocol:
    split = SplitConfig(kind="time", test_start="2023-11-03T14:38:47", refit=True, min_events=1)
    with open(shared_data / "ifdb" / "interactions.csv", encoding="utf-8", newline="") as stream:
        rows = [(r["userid"], r["gameid"], parse_time(r["date_added"], "date_added")) for r in csv.DictReader(stream)]
    users, items, times = zip(*rows, strict=True)
    sequences, size = user_sequences(list(users), list(items), list(times), split, 1)
    return sequences, EvaluationSet.build(sequences, size, split)


def figures(evaluation_set: EvaluationSet, score: Score) -> dict[str, float]:
    """Every column of the published table; `user recall` is Recall@50."""
    ranking = evaluate(evaluation_set, score, AT)
    deciles, offsets = evaluation_set.deciles, evaluation_set.target_offsets
    return {
        **{f"HIT@{n}": hits(ranking.ranks, n).mean() for n in AT},
        "coverage@50": coverage(ranking.best_positions, 50),
        "head": hits(ranking.ranks[deciles == 0], 50).mean(),
        "tail": hits(ranking.ranks[deciles > 0], 50).mean(),
        "gap": hits(ranking.ranks[evaluation_set.gaps >= 60], 50).mean(),
        "user recall": recall(ranking.ranks, offsets, 50).mean(),
    }


def expect(found: dict[str, float], hits_at: list[float], **others: float) -> None:
    expected = {**{f"HIT@{n}": hit for n, hit in zip(AT, hits_at, strict=True)}, **others}
    expected = {name.replace("_", " ").replace("coverage", "coverage@50"): value for name, value in expected.items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=WITHIN)


def test_ml1m_has_the_published_size(ml1m: Protocol) -> None:
    sequences, test = ml1m
    assert (len(test), len(test.candidates), np.count_nonzero(sequences.train_rows())) == (6034, 3525, 563204)
    assert (np.count_nonzero(test.deciles < 0), np.count_nonzero(test.gaps >= 60)) == (4, 2187)


def test_popularity_on_ml1m(ml1m: Protocol) -> None:
    _, test = ml1m
    found = figures(test, popularity(test))
    expect(found, [0.0451, 0.1402, 0.2415, 0.3610, 0.5799], coverage=0.089, head=0.309, tail=0, gap=0.116)


def test_ease_on_the_last_items_on_ml1m(ml1m: Protocol) -> None:
    sequences, test = ml1m
    found = figures(test, Ease.fit(gram_matrix(sequences, test), 300).score(test, last=10))
    expect(found, [0.1599, 0.3576, 0.4632, 0.5723, 0.7009], coverage=0.598, head=0.516, tail=0.227, gap=0.215)


def test_ease_refitted_on_ml1m(ml1m: Protocol) -> None:
    sequences, test = ml1m
    refitted = dataclasses.replace(sequences, train_end=sequences.validation_end)
    found = figures(test, Ease.fit(gram_matrix(refitted, test), 500).score(test))
    expect(found, [0.1079, 0.3049, 0.4465, 0.5923, 0.7819], coverage=0.423, head=0.536, tail=0.113, gap=0.238)


def test_ifdb_has_the_published_size(ifdb: Protocol) -> None:
    sequences, test = ifdb
    assert (np.count_nonzero(sequences.train_end), len(test.candidates)) == (3061, 8512)
    assert (len(test), len(test.target_items), np.count_nonzero(test.deciles < 0)) == (335, 13444, 6214)


def test_popularity_on_ifdb(ifdb: Protocol) -> None:
    _, test = ifdb
    found = figures(test, popularity(test))
    expect(found, [0.0191, 0.0605, 0.0960, 0.1413, 0.2246], coverage=0.034, head=0.241, tail=0)


def test_popularity_of_the_last_half_year_on_ifdb(ifdb: Protocol) -> None:
    sequences, test = ifdb
    found = figures(test, recent_popularity(sequences, test, 180))
    expect(
        found,
        [0.0238, 0.0717, 0.1070, 0.1557, 0.2550],
        coverage=0.019,
        head=0.223,
        tail=0.055,
        user_recall=0.161,
    )


def test_ease_on_ifdb(ifdb: Protocol) -> None:
    sequences, test = ifdb
    found = figures(test, Ease.fit(gram_matrix(sequences, test), 300).score(test))
    expect(
        found,
        [0.0217, 0.0704, 0.1057, 0.1519, 0.2342],
        coverage=0.171,
        head=0.271,
        tail=0.008,
        user_recall=0.161,
    )
