"""What the server counts, in the text format of Prometheus. Any worker answers for all of them."""

import bisect
from collections.abc import Iterator, Sequence

from serving.shared_numbers import SharedNumbers

STATUSES = (200, 202, 304, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram's buckets."""
OTHER = "other"
"""The route of requests to no route."""

COUNTERS = {
    "batches": "Batches of queries answered together.",
    "batched": "Queries in these batches.",
    "reloads": "Bundles taken into service after the first.",
    "reload_failures": "Bundles refused; the one before is still served.",
    "event_store_failures": "Requests answered without fresh events because their store did not answer.",
    "events": "Events accepted.",
}
GAUGES = {
    "workers": "Worker processes that answer.",
    "in_flight": "Requests being answered.",
    "resident_bytes": "Memory of the workers; a page that several of them map counts for each.",
}


class Metrics:
    """The numbers of one worker, in its row of the shared ones."""

    def __init__(self, numbers: SharedNumbers, worker: int, routes: Sequence[str]) -> None:
        self._shared, self._row, self._layout = numbers, numbers.row(worker), _Layout(routes)
        for name in GAUGES:  # what a worker that died left
            self.set(name, 0)

    @staticmethod
    def columns(routes: Sequence[str]) -> int:
        """How many numbers a worker has."""
        return _Layout(routes).columns

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        start = self._layout.routes[route]
        self._row[start + _STATUS_PLACE.get(status, _STATUS_PLACE[500])] += 1
        start += len(STATUSES)
        self._row[start + bisect.bisect_left(SECONDS, seconds)] += 1
        self._row[start + len(SECONDS) + 1] += seconds

    def add(self, name: str, amount: float = 1) -> None:
        """Move a counter or a gauge."""
        self._row[self._layout.single[name]] += amount

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._row[self._layout.single[name]] = value

    def text(self) -> str:
        """The sums over all workers, to be scraped."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        totals, layout = self._shared.totals(), self._layout
        for names, kind, suffix in ((COUNTERS, "counter", "_total"), (GAUGES, "gauge", "")):
            for name, meaning in names.items():
                full = f"twotower_{name}{suffix}"
                yield from (f"# HELP {full} {meaning}", f"# TYPE {full} {kind}")
                yield f"{full} {totals[layout.single[name]]:.17g}"
        yield "# HELP twotower_requests_total Requests answered."
        yield "# TYPE twotower_requests_total counter"
        for route, start in layout.routes.items():
            for status, count in zip(STATUSES, totals[start:], strict=False):
                if count:
                    yield f'twotower_requests_total{{route="{route}",status="{status}"}} {count:.17g}'
        yield "# HELP twotower_request_seconds Time from a request's header to its answer."
        yield "# TYPE twotower_request_seconds histogram"
        for route, start in layout.routes.items():
            if any(totals[start : start + len(STATUSES)]):
                yield from _histogram(route, totals[start + len(STATUSES) :])


_STATUS_PLACE = {status: place for place, status in enumerate(STATUSES)}


class _Layout:
    """Where each number stands in a row: single ones first, then for each route its statuses and its histogram."""

    def __init__(self, routes: Sequence[str]) -> None:
        self.single = {name: place for place, name in enumerate((*COUNTERS, *GAUGES))}
        width = len(STATUSES) + len(SECONDS) + 2  # beyond the last bound, and the sum
        self.routes = {route: len(self.single) + i * width for i, route in enumerate((*routes, OTHER))}
        self.columns = len(self.single) + width * len(self.routes)


def _histogram(route: str, numbers: Sequence[float]) -> Iterator[str]:
    below = 0.0
    for bound, count in zip((*SECONDS, "+Inf"), numbers, strict=False):
        below += count
        yield f'twotower_request_seconds_bucket{{route="{route}",le="{bound}"}} {below:.17g}'
    yield f'twotower_request_seconds_sum{{route="{route}"}} {numbers[len(SECONDS) + 1]:.9g}'
    yield f'twotower_request_seconds_count{{route="{route}"}} {below:.17g}'
