"""The retrieval logic: a request in ids -> the best items of a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import RequestError
from serving.allowed import Allowed, AllowedRows
from serving.bundle import Bundle
from serving.encoder import FeatureValue
from serving.errors import NotFoundError
from serving.filters import Filter
from serving.index import Found


class Query(NamedTuple):
    """Whom to recommend to, and what not.

    user_id: a user; one the bundle does not know needs `history` or `features` beside it.
    history: item ids, oldest first; appended to the known user's own. Ids the bundle does not know are ignored.
    features: values by user field; they replace the known user's own.
    exclude_seen: leave out the items of the history. exclude: other item ids to leave out.
    filter: what the items must fulfil; see serving.filters.parse_filter.
    """

    user_id: str | None = None
    history: Sequence[str] | None = None
    features: Mapping[str, FeatureValue] | None = None
    k: int = 50
    exclude_seen: bool = True
    exclude: Sequence[str] = ()
    filter: Filter | None = None


@dataclass(frozen=True)
class Retrieved:
    """items: int [m], item indices, best first; scores: float32 [m].

    known_user: whether the bundle knows the user. history: int32 [n], the known items that were taken as history.
    ignored: ids of the request the bundle does not know, by the part of the request they stood in.
    """

    items: np.ndarray
    scores: np.ndarray
    known_user: bool = False
    history: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    ignored: dict[str, list[str]] = field(default_factory=dict)


NO_ITEMS = np.empty(0, np.int32)


class _Request(NamedTuple):
    """A query in indices: what the tower and the index take."""

    k: int
    user: int
    history: np.ndarray
    inputs: dict[str, np.ndarray]
    excluded: np.ndarray
    allowed: Allowed | None
    ignored: dict[str, list[str]]


class Retriever:
    """Answers requests from one bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._allowed = AllowedRows(bundle.items.fields, bundle.item_indices - 1)

    def recommend(self, query: Query) -> Retrieved:
        """The k best items for a user; fewer only when fewer are allowed.

        A user without any known history item is a cold user, served by features alone.
        Raises NotFoundError for an unknown user without history or features, RequestError for an impossible request.
        """
        request = self._read(query)
        (vectors,) = self.bundle.tower(request.inputs)
        return self._retrieved(request, self.bundle.index.search(vectors, request.k, request.excluded, request.allowed))

    def recommend_batch(self, queries: Sequence[Query]) -> list[Retrieved]:
        """`recommend` of many users in one call of the tower and, where they have no filter, of the index.

        Raises what `recommend` raises, its message beginning with `queries[i]: `, for the first query that cannot be
        answered.
        """
        requests = [self._read_one_of(i, query) for i, query in enumerate(queries)]
        if not requests:
            return []
        names = requests[0].inputs
        vectors = self.bundle.tower({name: np.concatenate([r.inputs[name] for r in requests]) for name in names})
        found: dict[int, Found] = {}
        free = [i for i, request in enumerate(requests) if request.allowed is None]
        answers = self.bundle.index.search_many(
            vectors[free], [requests[i].k for i in free], [requests[i].excluded for i in free]
        )
        found.update(zip(free, answers, strict=True))
        for i, request in enumerate(requests):
            if request.allowed is not None:
                found[i] = self.bundle.index.search(vectors[i], request.k, request.excluded, request.allowed)
        return [self._retrieved(request, found[i]) for i, request in enumerate(requests)]

    def similar(self, item_id: str, k: int, exclude: Sequence[str] = (), filter: Filter | None = None) -> Retrieved:
        """The k items whose vectors have the highest cosine with the item's, which is not among them.

        Raises NotFoundError when the item is unknown, or known but not in the index.
        """
        bundle = self.bundle
        row = int(bundle.rows[bundle.items.index(item_id)])
        if row < 0:
            raise NotFoundError(f"item {item_id!r} has no train events, and this bundle indexes trained items only")
        excluded, unknown = bundle.items.split(exclude)
        allowed = None if filter is None else self._allowed(filter)
        found = bundle.index.similar(row, _positive(k), self._rows(excluded), allowed)
        return Retrieved(self._items(found.rows), found.scores, ignored={"exclude": unknown})

    def allowed_items(self, items: np.ndarray, exclude: Sequence[str], filter: Filter | None) -> np.ndarray:
        """Which of some item indices, int32 [n], are not excluded and pass the filter: bool [n]."""
        kept = ~np.isin(items, self.bundle.items.split(exclude)[0])
        if filter is not None:
            rows = self.bundle.rows[items]
            kept &= (rows >= 0) & self._allowed(filter).contains(np.maximum(rows, 0))
        return kept

    def item(self, item_id: str) -> dict[str, Any]:
        """All that is known of an item. Raises NotFoundError."""
        items = self.bundle.items
        index = items.index(item_id)
        (record,) = items.describe(np.array([index]), list(items.fields))
        count = int(items.counts[index - 1])
        return {"fields": {}, **record, "train_events": count, "indexed": bool(self.bundle.rows[index] >= 0)}

    def user(self, user_id: str, recent: int = 20) -> dict[str, Any]:
        """All that is known of a user, with the most recent items, oldest first. Raises NotFoundError."""
        users = self.bundle.users
        index = users.index(user_id)
        history = users.history(index)
        return {
            "user_id": user_id,
            "fields": users.features(index),
            "history_length": len(history),
            "recent": self.bundle.items.describe(history[len(history) - min(recent, len(history)) :]),
        }

    def info(self) -> dict[str, Any]:
        """What the bundle is, for people and monitors."""
        bundle = self.bundle
        described: dict[str, Any] = {
            "items": len(bundle.items),
            "indexed_items": len(bundle.index),
            "users": len(bundle.users),
            "history_length": bundle.encoder.history_length,
            "user_features": {f.name: f.kind for f in bundle.encoder.fields},
            "item_fields": list(bundle.items.fields),
            "neighbours": ["embedding", *bundle.neighbours],
            "map_items": 0 if bundle.map is None else len(bundle.map.items),
        }
        if bundle.artifact is not None:
            manifest = bundle.artifact.manifest
            described |= {name: manifest[name] for name in ("run", "created", "code", "counts")}
        return described

    def _read(self, query: Query) -> _Request:
        bundle, user = self.bundle, self._user(query)
        history, excluded, ignored = bundle.users.history(user) if user else NO_ITEMS, NO_ITEMS, {}
        if query.history is not None:
            given, ignored["history"] = bundle.items.split(query.history)
            history = np.concatenate((history, given))
        if query.exclude:
            excluded, ignored["exclude"] = bundle.items.split(query.exclude)
        inputs = bundle.encode(user, history, query.features or {})
        if query.exclude_seen:
            excluded = np.concatenate((excluded, history)) if len(excluded) else history
        allowed = None if query.filter is None else self._allowed(query.filter)
        ignored = {"history": [], "exclude": [], **ignored}
        return _Request(_positive(query.k), user, history, inputs, self._rows(excluded), allowed, ignored)

    def _read_one_of(self, place: int, query: Query) -> _Request:
        try:
            return self._read(query)
        except RequestError as error:
            raise type(error)(f"queries[{place}]: {error}") from None

    def _retrieved(self, request: _Request, found: Found) -> Retrieved:
        return Retrieved(self._items(found.rows), found.scores, request.user > 0, request.history, request.ignored)

    def _user(self, query: Query) -> int:
        """The user's index, 0 when the request is for somebody the bundle does not know."""
        described = query.history is not None or query.features is not None
        if query.user_id is None:
            if not described:
                raise RequestError("give `user_id`, `history` or `features`")
            return 0
        if described:
            return self.bundle.users.ids.index(query.user_id)
        return self.bundle.users.index(query.user_id)

    def _items(self, rows: np.ndarray) -> np.ndarray:
        """Index rows -> item indices."""
        return rows + 1 if self.bundle.in_order else self.bundle.item_indices[rows]

    def _rows(self, items: np.ndarray) -> np.ndarray:
        """Item indices -> the index rows of those that are indexed, int."""
        if self.bundle.in_order:
            return items - 1
        rows = self.bundle.rows[items]
        return rows if self.bundle.complete else rows[rows >= 0]


def _positive(k: int) -> int:
    if k < 1:
        raise RequestError(f"`k` must be at least 1, not {k}")
    return k
