"""Top-K of the item vectors: a FAISS index, and an exact scan where the index would come back short."""

import math
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from serving.allowed import Allowed
from serving.halves import Halves, certain
from serving.lasting import lasting
from serving.scan import NONE, best, highest, highest_of_many
from serving.shard import Shard

SCAN_SHARE = 0.25
"""From this share of the catalogue on, fetching costs more than scanning all of it."""
GATHER_NS, SCAN_NS = 45.0, 16.0
"""What scoring costs per row that is picked, and per row when all are scored in their order (64 numbers), see
benchmarks/filters.py; serving/shard.py has what asking the index costs."""
WIDEN = 4.0
"""How much deeper to search per row that is not allowed: the allowed ones lie anywhere, but never evenly."""
MANY_EXCLUDED = 1000
"""From so many exclusions on, hiding them from the index costs less than fetching as many items more."""


class Found(NamedTuple):
    """rows: int64 [m], best first; scores: float32 [m]."""

    rows: np.ndarray
    scores: np.ndarray


class Task(NamedTuple):
    """What one search is to bring.

    wanted: the rows to return. fetched: the rows to look at so that as many remain. excluded: int64 [E].
    """

    wanted: int
    fetched: int
    excluded: np.ndarray
    allowed: Allowed | None


class ItemIndex:
    """N item vectors and the FAISS index built over them. An item is its row, 0 .. N - 1.

    Args:
      shards: indexes over consecutive rows of `vectors`.
      vectors: float32 [N, D], possibly memory-mapped.
      norms: float32 [N], their lengths.
      tuned_for: the k up to which the depth of the shards was tuned; for more the search goes deeper.
      refine: how many times more rows to fetch than wanted, to order them by their exact scores; 0 where the index
        gives exact scores itself. At least `tuned_for` rows are fetched: the fewer are wanted, the farther down an
        approximate score may put one of them.
      halves: of an index that would score every row: the vectors in half precision, to search them sooner.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        vectors: np.ndarray,
        norms: np.ndarray,
        tuned_for: int = 1 << 30,
        refine: float = 0.0,
        halves: Halves | None = None,
    ) -> None:
        rows, dimension = sum(shard.size for shard in shards), shards[0].index.d
        if (rows, dimension) != vectors.shape:
            raise ValueError(f"the index holds {rows} x {dimension}, but the vectors are {vectors.shape}")
        self.shards, self.vectors, self.norms = tuple(shards), np.asarray(vectors), norms
        self.unit = bool(norms.min(initial=1.0) > 0.999 and norms.max(initial=1.0) < 1.001)
        """Whether an inner product is the cosine times the length of the query."""
        self.refines, self._tuned_for, self._refine = refine > 0, tuned_for, refine
        self._plain, self._halves = len(shards) == 1, halves
        self._flat = not self.refines and all(shard.flat for shard in shards)
        """Whether the index itself would score every row; then it is not asked at all."""
        self._direct_limit = min(SCAN_SHARE * len(vectors), MANY_EXCLUDED)
        self._of_thread = threading.local()

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: np.ndarray, k: int, excluded: np.ndarray = NONE, allowed: Allowed | None = None) -> Found:
        """The k rows of highest inner product, best first; all that may be returned when fewer than k are.

        Args:
          queries: float32 [K, D], the vectors of one user; a row's score is the highest of its K inner products.
          excluded: int64 [E], rows never to return, in any order and number.
          allowed: the rows to choose from; all when None.
        Returns: min(k, rows allowed and not excluded) rows, for any index kind, filter and exclusion.
        """
        if allowed is None and len(queries) == 1 and k + len(excluded) < self._direct_limit:
            found = self._directly(queries, k, excluded)
            if found is not None:
                return found
        task = self._task(k, excluded, allowed)
        if self._narrowed(task, len(queries)):
            return self._exact(queries, task)
        ((scores, rows),) = self.ask(queries[np.newaxis], task.fetched, self.deeper(task), task.allowed)
        return self._finish(queries, scores, rows, task)

    def _directly(self, queries: np.ndarray, k: int, excluded: np.ndarray) -> Found | None:
        """The common case of `search` in few steps, for each one counts beside FAISS; None in all others."""
        if self._flat:
            return self._by_halves(self._halves, queries, k, excluded) if self._halves else None
        if not self._plain or k > self._tuned_for:
            return None
        scores, rows = self.shards[0].search(queries, min(len(self), self._looked_at(k) + len(excluded)))
        found = self._remaining(queries, scores[0], rows[0], k, excluded)
        return None if len(found.rows) < k or found.rows[-1] < 0 else found

    def _by_halves(self, halves: Halves, queries: np.ndarray, k: int, excluded: np.ndarray) -> Found | None:
        """The k best exactly; None where half precision cannot tell."""
        rows, beyond = halves.candidates(queries, k + len(excluded))
        if len(excluded):
            rows = rows[self._keep(rows, excluded)]
        found = certain(self.vectors, queries, rows, beyond, k)
        return None if found is None else Found(*found)

    def _remaining(
        self, queries: np.ndarray, scores: np.ndarray, rows: np.ndarray, k: int, excluded: np.ndarray
    ) -> Found:
        """What one shard found for one vector, [m], best first -> the k best that are not excluded, if so many are."""
        if len(excluded):
            kept = self._keep(rows, excluded).nonzero()[0][: self._looked_at(k)]
            rows = rows[kept]
            scores = scores if self.refines else scores[kept]
        if not self.refines:
            return Found(rows[:k], scores[:k])
        if len(rows) and rows[-1] < 0:
            rows = rows[rows >= 0]
        exact = highest(self.vectors.take(rows, axis=0), queries)
        top = best(exact, k)
        return Found(rows[top], exact[top])

    def search_many(self, queries: np.ndarray, ks: Sequence[int], excluded: Sequence[np.ndarray]) -> list[Found]:
        """`search` of B users at once, queries float32 [B, K, D], without filters."""
        tasks = [self._task(k, rows, None) for k, rows in zip(ks, excluded, strict=True)]
        if self._flat:
            scored = highest_of_many(self.vectors, queries)
            return [self._best(scores, task) for scores, task in zip(scored, tasks, strict=True)]
        found: dict[int, Found] = {}
        together = []
        for i, task in enumerate(tasks):
            if task.allowed is not None or self._narrowed(task, queries.shape[1]):
                found[i] = self.search(queries[i], ks[i], excluded[i])
            else:
                together.append(i)
        for group in _alike(together, [task.fetched for task in tasks]):
            n, deeper = max(tasks[i].fetched for i in group), max(self.deeper(tasks[i]) for i in group)
            for i, (scores, rows) in zip(group, self.ask(queries[group], n, deeper), strict=True):
                found[i] = self._finish(queries[i], scores, rows, tasks[i])
        return [found[i] for i in range(len(tasks))]

    def scan(self, queries: np.ndarray, k: int, excluded: np.ndarray = NONE, allowed: Allowed | None = None) -> Found:
        """What `search` returns, exactly, by scoring every row that is allowed."""
        return self._exact(queries, self._task(k, excluded, allowed))

    def similar(self, row: int, k: int, excluded: np.ndarray = NONE, allowed: Allowed | None = None) -> Found:
        """The k rows of highest cosine with one row, which is not among them; otherwise as `search`."""
        query = self.vectors[row : row + 1] / max(self.norms[row], 1e-12)
        excluded = np.append(excluded, row)
        if self.unit:
            return self.search(query, k, excluded, allowed)
        # The index ranks by inner product, under which a long vector is everybody's neighbour.
        return self._exact(query, self._task(k, excluded, allowed), np.maximum(self.norms, 1e-12))

    def _task(self, k: int, excluded: np.ndarray, allowed: Allowed | None) -> Task:
        """Counts exactly only where it matters: near the end of what is allowed, and of many exclusions."""
        total = len(self) if allowed is None else allowed.count
        if total - len(excluded) < k or (len(excluded) >= MANY_EXCLUDED and not self._flat):
            excluded = np.unique(excluded)
            if allowed is not None:
                excluded = excluded[allowed.contains(excluded)]
            if len(excluded) >= MANY_EXCLUDED and not self._flat:
                allowed = (allowed or self._everything).without(excluded)
                total, excluded = allowed.count, NONE
        wanted = max(0, min(k, total - len(excluded)))
        return Task(wanted, wanted + len(excluded), excluded, allowed)

    @cached_property
    def _everything(self) -> Allowed:
        return Allowed.everything(len(self))

    def _narrowed(self, task: Task, queries: int) -> bool:
        """Whether to score what is allowed instead of asking the index."""
        if self._flat or task.wanted == 0 or task.fetched * queries >= SCAN_SHARE * len(self):
            return True
        allowed = task.allowed
        if allowed is None:
            return False
        asked = max(shard.filtered_ns(allowed.share, self.deeper(task)) for shard in self.shards)
        return asked >= (SCAN_NS if allowed.few is None else GATHER_NS * allowed.share)

    def deeper(self, task: Task) -> float:
        """How many times the tuned depth to search, so that recall holds for more items and under a filter."""
        deeper = max(1.0, task.wanted / self._tuned_for)
        return deeper if task.allowed is None else deeper * (1.0 + WIDEN * (1.0 / task.allowed.share - 1.0))

    def ask(
        self, queries: np.ndarray, n: int, deeper: float = 1.0, allowed: Allowed | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What the index alone finds for B users, queries float32 [B, K, D], when asked for n rows (more to refine).

        Returns: for each user scores float32 and rows int64 [K, m], of each shard the best first, -1 for nothing.
        """
        n = self._looked_at(n)
        bits = None if allowed is None else allowed.bits
        users, interests, dimension = queries.shape
        flat = queries.reshape(-1, dimension)  # (B, K, D) -> (B*K, D)
        found = [shard.search(flat, min(n, shard.size), deeper, bits) for shard in self.shards]
        scores, rows = found[0] if len(found) == 1 else map(np.hstack, zip(*found, strict=True))
        shape = users, interests, scores.shape[1]
        return list(zip(scores.reshape(shape), rows.reshape(shape), strict=True))  # (B*K, m) -> (B, K, m)

    def _looked_at(self, n: int) -> int:
        """How many rows to ask the index for, so that the n best are among them."""
        return min(len(self), max(math.ceil(n * self._refine), self._tuned_for) if self.refines else n)

    def merge(self, queries: np.ndarray, scores: np.ndarray, rows: np.ndarray, n: int) -> Found:
        """What `ask` found for one user, [K, m] -> the n best, each row once, best first; -1 may be among the rows."""
        found, exact = rows[0], scores[0]
        if len(queries) > 1 or self.refines:
            found = np.unique(rows) if len(queries) > 1 else found
            found = found[found >= 0]
            exact = highest(self.vectors.take(found, axis=0), queries)
        elif len(self.shards) == 1:
            return Found(found[:n], exact[:n])
        top = best(exact, n)
        return Found(found[top], exact[top])

    def _finish(self, queries: np.ndarray, scores: np.ndarray, rows: np.ndarray, task: Task) -> Found:
        if self._plain and len(queries) == 1:
            found, exact = self._remaining(queries, scores[0], rows[0], task.wanted, task.excluded)
        else:
            found, exact = self.merge(queries, scores, rows, task.fetched)
            kept = self._keep(found, task.excluded)
            found, exact = found[kept][: task.wanted], exact[kept][: task.wanted]
        # Where the index found nothing more, its rows end in -1.
        if len(found) < task.wanted or found.min(initial=0) < 0:
            return self._exact(queries, task)
        return Found(found, exact)

    def _keep(self, rows: np.ndarray, excluded: np.ndarray) -> np.ndarray:
        """Which rows are not excluded, bool [n]; of -1 it says anything, and it may stand at the end only."""
        marks = getattr(self._of_thread, "marks", None)
        if marks is None:  # made once: a fresh array of N would cost more than the search
            marks = self._of_thread.marks = lasting(len(self), np.bool_)
        marks[excluded] = True
        kept = ~marks.take(rows)
        marks[excluded] = False
        return kept

    def _exact(self, queries: np.ndarray, task: Task, norms: np.ndarray | None = None) -> Found:
        """Score all rows, or the few allowed ones, and divide by `norms` [N] if given."""
        if task.wanted == 0:
            return Found(NONE, np.empty(0, np.float32))
        rows = None if task.allowed is None else task.allowed.rows()
        if task.allowed is not None and task.allowed.few is not None:
            scores = highest(self.vectors.take(task.allowed.few, axis=0), queries)
        else:
            scores = highest(self.vectors, queries)
            scores = scores if rows is None else scores[rows]
        if norms is not None:
            scores = scores / (norms if rows is None else norms[rows])
        return self._best(scores, task, rows)

    def _best(self, scores: np.ndarray, task: Task, rows: np.ndarray | None = None) -> Found:
        """The best of all rows, or of `rows`, by their scores, which are overwritten."""
        if rows is None:
            scores[task.excluded] = -np.inf
            top = best(scores, task.wanted)
            return Found(top, scores[top])
        top = best(scores, task.fetched)
        top = top[self._keep(rows[top], task.excluded)][: task.wanted]
        return Found(rows[top].astype(np.int64, copy=False), scores[top])


def _alike(tasks: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Group tasks of which none fetches more than twice as much as another, so that one large one slows no other."""
    groups: dict[int, list[int]] = {}
    for task in tasks:
        groups.setdefault(sizes[task].bit_length(), []).append(task)
    return list(groups.values())
