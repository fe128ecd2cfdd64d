"""What every model must beat: popularity, popularity of the last days, and EASE, also on the last items only.

EASE: Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation_set import EvaluationSet, Phase, before_refit, phase_bounds
from pipeline.metrics import hits
from pipeline.progress import bar
from pipeline.ranking import Ranking, Score, evaluate
from pipeline.sequences import UserSequences

KIND, VERSION = "baselines", 2
DAY = 86_400
RIDGES = (100, 300, 500, 1000, 2000)
LAST = (5, 10, 20, 50)
MAX_EASE_ITEMS = 12_000
"""EASE inverts a dense items x items matrix: 12,000 take half a minute and 1.7 GB, six times over with the tuning."""


def popularity(evaluation_set: EvaluationSet) -> Score:
    """Score every candidate by its train events."""
    counts = evaluation_set.counts[evaluation_set.candidates].astype(np.float32)
    return lambda start, stop: np.broadcast_to(counts, (stop - start, len(counts)))


def recent_popularity(sequences: UserSequences, evaluation_set: EvaluationSet, days: int) -> Score:
    """Score every candidate by its events in the `days` before the user's request time.

    It counts what is known by then: all events before the evaluated phase, the validation part too when that is the
    test, of all users. In a `time` split the window ends where the phase starts; in `leave_last_out`, where nothing
    starts for all users at once, it ends at the last event of the user's own history.
    """
    before, _ = phase_bounds(sequences, evaluation_set.phase)
    known = np.arange(len(sequences.items)) < np.repeat(before, np.diff(sequences.offsets))
    known &= evaluation_set.positions[sequences.items] >= 0
    order = np.flatnonzero(known)[np.argsort(sequences.timestamps[known], kind="stable")]
    times, items = sequences.timestamps[order], evaluation_set.positions[sequences.items[order]]
    begins = np.searchsorted(times, evaluation_set.request_times - days * DAY)
    ends = np.searchsorted(times, evaluation_set.request_times)
    width = len(evaluation_set.candidates)

    def score(start: int, stop: int) -> np.ndarray:
        scores = np.empty((stop - start, width), np.float32)
        counts, begin, end = np.zeros(width, np.int64), 0, 0
        # From the earliest window to the latest, so that each event enters once and leaves once. By the time asked,
        # not by the end: of two windows that end with the same event, one may begin later.
        for user in start + np.argsort(evaluation_set.request_times[start:stop], kind="stable"):
            if (begin, end) != (begins[user], ends[user]):
                counts += np.bincount(items[end : ends[user]], minlength=width)
                counts -= np.bincount(items[begin : begins[user]], minlength=width)
                begin, end = begins[user], ends[user]
            scores[user - start] = counts
        return scores

    return score


@dataclass(frozen=True)
class Ease:
    """The item-item weights B of EASE: float32 [n, n], n the trained items in candidate order, zero diagonal."""

    weights: np.ndarray

    @classmethod
    def fit(cls, gram: np.ndarray, ridge: float) -> "Ease":
        """B = I - P / diag(P) with P = (X'X + ridge I)^-1 (Steck 2019, eq. 8). gram: X'X, float32 [n, n]."""
        matrix = np.array(gram, dtype=np.float32, order="F")
        diagonal = np.diag_indices_from(matrix)
        matrix[diagonal] += ridge
        factor, failed = lapack.spotrf(matrix, lower=True, overwrite_a=True)
        if failed:
            raise ConfigError(f"EASE has no solution with a ridge of {ridge}. Cure: a larger one")
        inverse, _ = lapack.spotri(factor, lower=True, overwrite_c=True)  # the lower triangle only
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        inverse /= -np.diag(inverse)
        inverse[diagonal] = 0
        return cls(np.ascontiguousarray(inverse))

    def score(self, evaluation_set: EvaluationSet, last: int | None = None) -> Score:
        """Score by the user's history, or by its `last` items only. Candidates without a train event have 0."""
        trained, width = len(self.weights), len(evaluation_set.candidates)
        if not evaluation_set.counts[evaluation_set.candidates].any():  # new items among themselves
            return lambda start, stop: np.zeros((stop - start, width), np.float32)

        def score(start: int, stop: int) -> np.ndarray:
            rows, positions = evaluation_set.history_positions(start, stop)
            known = positions < trained
            rows, positions = rows[known], positions[known]
            if last is not None:
                ends = np.cumsum(np.bincount(rows, minlength=stop - start))
                recent = np.arange(len(rows)) >= ends[rows] - last
                rows, positions = rows[recent], positions[recent]
            scores = np.zeros((stop - start, width), np.float32)
            scores[:, :trained] = _binary(rows, positions, (stop - start, trained)) @ self.weights
            return scores

        return score


def gram_matrix(sequences: UserSequences, evaluation_set: EvaluationSet) -> np.ndarray:
    """X'X of the users' train events, an item once a user: float32 [n, n] over the n trained items."""
    trained = int(np.count_nonzero(evaluation_set.counts))
    train = sequences.train_rows() & (evaluation_set.counts[sequences.items] > 0)
    rows = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))[train]
    clicks = _binary(rows, evaluation_set.positions[sequences.items[train]], (len(sequences), trained))
    return (clicks.T @ clicks).toarray()


def _binary(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


@dataclass(frozen=True)
class Trial:
    """One setting of one baseline and its HIT on the validation part."""

    baseline: str
    settings: dict[str, int]
    hit: float


def trials(config: Config, sequences: UserSequences, item_count: int) -> Iterator[Trial]:
    """Every setting of the tuned baselines, fitted on train and tried on the validation part."""
    sequences, split = before_refit(sequences, config.split)
    validation = EvaluationSet.build(sequences, item_count, split, "validation")
    n = config.train.monitor

    def trial(baseline: str, settings: dict[str, int], score: Score) -> Trial:
        return Trial(baseline, settings, float(hits(evaluate(validation, score, [n]).ranks, n).mean()))

    for days in config.evaluate.recent_days:
        yield trial("recent_popularity", {"days": days}, recent_popularity(sequences, validation, days))
    if np.count_nonzero(validation.counts) > MAX_EASE_ITEMS:
        return
    gram = gram_matrix(sequences, validation)
    for ridge in RIDGES:
        ease = Ease.fit(gram, ridge)
        yield trial("ease", {"ridge": ridge}, ease.score(validation))
        for last in LAST:
            yield trial("ease_last", {"ridge": ridge, "last": last}, ease.score(validation, last))


def choose(tried: list[Trial]) -> dict[str, Trial]:
    """The best trial of each baseline; the first of equals."""
    best: dict[str, Trial] = {}
    for trial in tried:
        if trial.baseline not in best or trial.hit > best[trial.baseline].hit:
            best[trial.baseline] = trial
    return best


def rank(
    sequences: UserSequences, parts: dict[str, EvaluationSet], chosen: dict[str, Trial], at: list[int]
) -> Iterator[tuple[str, str, Ranking]]:
    """(part, baseline, ranking) of every baseline on every part."""
    for part, evaluation_set in parts.items():
        yield part, "popularity", evaluate(evaluation_set, popularity(evaluation_set), at)
        if "recent_popularity" in chosen:
            recent = recent_popularity(sequences, evaluation_set, chosen["recent_popularity"].settings["days"])
            yield part, "recent_popularity", evaluate(evaluation_set, recent, at)
    tuned = {name: chosen[name].settings for name in ("ease", "ease_last") if name in chosen}
    for ridge in {settings["ridge"] for settings in tuned.values()}:
        ease = Ease.fit(gram_matrix(sequences, parts["trained"]), ridge)
        for name, settings in tuned.items():
            for part, evaluation_set in parts.items() if settings["ridge"] == ridge else ():
                yield part, name, evaluate(evaluation_set, ease.score(evaluation_set, settings.get("last")), at)


@dataclass(frozen=True)
class Baselines:
    """The artefact that `run` writes: chosen settings, and a ranking per part and baseline."""

    artifact: Artifact
    labels: dict[str, str]
    rankings: dict[str, dict[str, Ranking]]

    @classmethod
    def open(cls, artifact: Artifact) -> "Baselines":
        labels = json.loads(artifact.file("settings.json").read_text(encoding="utf-8"))["labels"]
        rankings: dict[str, dict[str, Ranking]] = {}
        with np.load(artifact.file("rankings.npz")) as arrays:
            for key in [k for k in arrays.files if k.endswith("/ranks")]:
                part, name, _ = key.split("/")
                best = arrays[f"{part}/{name}/best_positions"]
                rankings.setdefault(part, {})[name] = Ranking(arrays[key], best)
        ordered = {part: {name: ranked[name] for name in labels} for part, ranked in rankings.items()}
        return cls(artifact, labels, ordered)


def run(
    config: Config,
    sequences: UserSequences,
    parts: dict[str, EvaluationSet],
    inputs: dict[str, str],
    phase: Phase = "test",
) -> Baselines:
    """Tune every baseline on validation and rank every part with it.

    The artefact lies in the work directory, not in the run's: all models of a table share it.

    Args:
      parts: see `evaluated_parts`. inputs: the fingerprints of what `sequences` and `parts` come from.
    """
    at = [*config.evaluate.at, config.train.monitor]
    settings = {
        "phase": phase,
        "split": config.split.model_dump(),
        "monitor": config.train.monitor,
        "recent_days": config.evaluate.recent_days,
        "depth": max(at),
        "ease": [RIDGES, LAST, MAX_EASE_ITEMS],
    }
    spec = Spec(KIND, VERSION, inputs, settings)
    path = config.baselines_dir(phase)
    if done := current(path, spec):
        return Baselines.open(done)
    total = len(config.evaluate.recent_days) + len(RIDGES) * (1 + len(LAST))
    tried = list(bar(trials(config, sequences, len(parts["trained"].counts)), "tuning the baselines", total, delay=1))
    chosen = choose(tried)
    arrays: dict[str, Any] = {}  # not of ndarray: the stub of savez takes them for its flag
    for part, name, ranking in rank(sequences, parts, chosen, at):
        arrays[f"{part}/{name}/ranks"] = ranking.ranks
        arrays[f"{part}/{name}/best_positions"] = ranking.best_positions
    described = {"labels": labels(chosen), "trials": [vars(trial) for trial in tried]}
    with create(path, spec) as draft:
        np.savez(draft.dir / "rankings.npz", **arrays)
        (draft.dir / "settings.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        draft.counts["trials"] = len(tried)
    return Baselines.open(open_artifact(path, KIND, VERSION))


def labels(chosen: dict[str, Trial]) -> dict[str, str]:
    """What a report calls each baseline, in its order."""
    named = {"popularity": "popularity"}
    if recent := chosen.get("recent_popularity"):
        named["recent_popularity"] = f"popularity of the last {recent.settings['days']} days"
    if ease := chosen.get("ease"):
        named["ease"] = f"EASE (lambda {ease.settings['ridge']})"
    if ease_last := chosen.get("ease_last"):
        named["ease_last"] = "EASE on the last {last} items (lambda {ridge})".format(**ease_last.settings)
    return named
