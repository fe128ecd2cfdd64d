"""Counters shared by workers, and their text."""

import re

from serving.metrics import STATUSES, Metrics
from serving.openapi import MEANINGS
from serving.shared_numbers import SharedNumbers

ROUTES = ["recommend", "item"]


def numbers(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*) (\S+)$", text, re.MULTILINE)}


def test_workers_are_added_up():
    file = SharedNumbers.make(2, Metrics.columns(ROUTES))
    first, second = (Metrics(SharedNumbers(file, 2, Metrics.columns(ROUTES)), n, ROUTES) for n in range(2))
    first.answered("recommend", 200, 0.004)
    second.answered("recommend", 200, 0.3)
    second.answered("recommend", 404, 99.0)
    second.answered("other", 404, 0.1)
    first.add("reloads")
    second.set("workers", 1)
    found = numbers(first.text())
    assert found == numbers(second.text())
    assert found['twotower_requests_total{route="recommend",status="200"}'] == 2
    assert found['twotower_requests_total{route="recommend",status="404"}'] == 1
    assert found['twotower_request_seconds_bucket{route="recommend",le="0.005"}'] == 1
    assert found['twotower_request_seconds_bucket{route="recommend",le="2.5"}'] == 2
    assert found['twotower_request_seconds_bucket{route="recommend",le="+Inf"}'] == 3
    assert found['twotower_request_seconds_count{route="recommend"}'] == 3
    assert found['twotower_request_seconds_sum{route="recommend"}'] == 99.304
    assert (found["twotower_reloads_total"], found["twotower_workers"]) == (1, 1)
    file.unlink()


def test_worker_that_takes_anothers_place_goes_on_counting_but_forgets_its_state():
    file = SharedNumbers.make(1, Metrics.columns(ROUTES))
    before = Metrics(SharedNumbers(file, 1, Metrics.columns(ROUTES)), 0, ROUTES)
    before.add("in_flight")
    before.add("batches", 3)
    after = Metrics(SharedNumbers(file, 1, Metrics.columns(ROUTES)), 0, ROUTES)
    found = numbers(after.text())
    assert (found["twotower_in_flight"], found["twotower_batches_total"]) == (0, 3)
    file.unlink()


def test_every_documented_refusal_is_counted_as_what_it_is():
    assert MEANINGS.keys() <= set(STATUSES)
