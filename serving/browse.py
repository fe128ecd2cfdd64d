"""What people ask of a bundle before they know an id: search, values of fields, neighbours, the map.

Slower than a recommendation, up to a tenth of a second where there are millions of items; call it in a thread.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.allowed import Numbers, Strings, make_column
from serving.bundle import Bundle
from serving.errors import AbsentError

MOST = 50
"""Items or users that a search returns at most."""
MAX_VALUES = 200
"""Values of a field that are listed, those of most items."""


class Browse:
    """Looks things up in one bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def search_items(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Items whose title contains the text, in any case, or whose id begins with it; all for an empty one.

        The item of that id comes first, then that title, titles that begin with the text, those with a word that does,
        and the others; of two alike the one with more train events.
        """
        found = self._find_items(query.strip())[:limit] if query.strip() else self._popular[:limit]
        described = self._bundle.items.describe(found + 1)
        counts = self._bundle.items.counts[found].tolist()
        return [{**item, "train_events": count} for item, count in zip(described, counts, strict=True)]

    def search_users(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Users whose id begins with the text, shorter ids first; some of all kinds for an empty one."""
        users, query = self._bundle.users, query.strip()
        if query:
            found = np.flatnonzero(pc.starts_with(users.ids.values, query))
            lengths = pc.utf8_length(users.ids.values.take(pa.array(found))).to_numpy()
            found = found[np.argsort(lengths, kind="stable")][:limit]
        else:  # users stand in the order of their counts, most of them with little history
            found = np.unique(np.geomspace(1, len(users), min(limit, len(users))).astype(np.int64)) - 1
        ids, lengths = users.ids.decode(found + 1), users.offsets[found + 1] - users.offsets[found]
        return [{"user_id": i, "history_length": n} for i, n in zip(ids, lengths.tolist(), strict=True)]

    @cached_property
    def fields(self) -> dict[str, dict[str, Any]]:
        """What there is to filter by, for each item field."""
        return {name: _summary(values) for name, values in self._bundle.items.fields.items()}

    def neighbours(self, item_id: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """An item's listed neighbours, item indices int32 [n] and scores float32 [n], best first.

        Raises NotFoundError for an unknown item, AbsentError when the bundle has no such lists.
        """
        index = self._bundle.items.index(item_id)
        if kind not in self._bundle.neighbours:
            raise AbsentError(
                f"there are no neighbours by {kind} in this bundle. Cure: twotower prepare, then twotower export"
            )
        return self._bundle.neighbours[kind].of(index)

    def map(self, field: str) -> dict[str, Any]:
        """The map in columns, with the values of a field, or none for "".

        Raises AbsentError when the bundle has no map, RequestError for an unknown field.
        """
        items, drawn = self._bundle.items, self._bundle.map
        fields = [field] if field else []
        items.check_fields(fields)
        if drawn is None:
            raise AbsentError("there is no map in this bundle. Cure: `export.map_items` above 0, then twotower export")
        records = items.describe(drawn.items, fields)
        points = np.round(drawn.points.astype(np.float64), 4)
        return {
            "method": drawn.method,
            "item_id": [record["item_id"] for record in records],
            "title": [record["title"] for record in records],
            "x": points[:, 0].tolist(),
            "y": points[:, 1].tolist(),
            "value": [record["fields"][field] for record in records] if field else None,
        }

    @cached_property
    def _popular(self) -> np.ndarray:
        counts = self._bundle.items.counts
        best = np.argpartition(-counts, min(MOST, len(counts) - 1))[:MOST]
        return best[np.argsort(-counts[best], kind="stable")]

    def _find_items(self, query: str) -> np.ndarray:
        """Places of all items that match, best first: int64 [n]."""
        items = self._bundle.items
        contains = pc.match_substring(items.titles, query, ignore_case=True)
        found = np.flatnonzero(pc.or_(contains, pc.starts_with(items.ids.values, query)))
        rows = pa.array(found)
        titles, ids = items.titles.take(rows), items.ids.values.take(rows)
        merits = _first_true(
            pc.equal(ids, query),
            pc.equal(pc.utf8_lower(titles), query.lower()),
            pc.starts_with(titles, query, ignore_case=True),
            pc.match_substring(titles, f" {query}", ignore_case=True),
            pc.match_substring(titles, query, ignore_case=True),
        )
        return found[np.lexsort((found, -items.counts[found], merits))]


def _first_true(*conditions: pa.Array) -> np.ndarray:
    """Which of the conditions, bool [n] each, is the first that holds: int [n]."""
    held = np.stack([*(np.asarray(each) for each in conditions), np.ones(len(conditions[0]), bool)])
    return held.argmax(axis=0)


def _summary(values: pa.Array) -> dict[str, Any]:
    """Kind, and values with the number of items of each, or the least and the greatest number."""
    column = make_column(values)
    if isinstance(column, Numbers):
        there = column.values[~np.isnan(column.values)]
        low, high = (float(there.min()), float(there.max())) if len(there) else (None, None)
        return {"kind": "numeric", "low": low, "high": high, "missing": len(values) - len(there)}
    assert isinstance(column, Strings)
    counts = np.bincount(column.codes, minlength=len(column.values))
    order = np.argsort(-counts, kind="stable")[: min(MAX_VALUES, int(np.count_nonzero(counts)))]
    names = column.values.take(pa.array(order)).to_pylist()
    return {
        "kind": "multi" if pa.types.is_list(values.type) else "categorical",
        "values": _counted(names, counts[order].tolist()),
        "distinct": int(np.count_nonzero(counts)),
        "missing": len(values) - len(np.unique(column.items)),
    }


def _counted(names: Sequence[str], counts: Sequence[int]) -> list[dict[str, Any]]:
    return [{"value": name, "items": count} for name, count in zip(names, counts, strict=True)]
