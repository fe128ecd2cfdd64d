"""The floor of serving, in a loop of one process without a server. Prints one JSON line.

    python -m benchmarks.raw_loop BUNDLE --what raw --k 500 --seconds 4

`raw`: user tower, FAISS, exact scores where FAISS knows approximate ones only, and JSON of ids and scores; the inputs
of the tower are encoded beforehand, and nothing that the user has seen is left out. `engine`:
serving.retriever.Retriever for the same users by their ids, without JSON.
`json`: what a server parses and writes for one request.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before FAISS loads, as in the server

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson

from serving.answers import ItemWriter
from serving.bundle import Bundle
from serving.retriever import Query, Retriever
from serving.schemas import RecommendRequest

USERS = 1000
WARM = 200


def users_of(bundle: Bundle) -> list[int]:
    """Indices of users, the same ones each time."""
    return (1 + np.random.default_rng(0).permutation(len(bundle.users))[:USERS]).tolist()


def raw(bundle: Bundle, k: int) -> list[Callable[[], Any]]:
    """For each user a call that does the least a server could do."""
    ids = np.array([record["item_id"] for record in bundle.items.describe(bundle.item_indices)], dtype=object)
    inputs = [bundle.encoder.encode(bundle.users.history(u), bundle.known_features(u)) for u in users_of(bundle)]
    index, shard = bundle.index, bundle.index.shards[0].index

    def search(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if index.refines:
            found = index.search(vector, k)
            return found.scores, found.rows
        scores, rows = shard.search(vector, k)
        return scores[0], rows[0]

    def answer(encoded: dict[str, np.ndarray]) -> bytes:
        scores, rows = search(bundle.tower(encoded)[0])
        return orjson.dumps({"items": ids[rows].tolist(), "scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)

    return [partial(answer, encoded) for encoded in inputs]


def engine(bundle: Bundle, k: int) -> list[Callable[[], Any]]:
    """For each user a call of the retriever."""
    retriever = Retriever(bundle)
    return [partial(retriever.recommend, query) for query in queries(bundle, k)]


def json_only(bundle: Bundle, k: int) -> list[Callable[[], Any]]:
    """For each user a call that parses a request and writes an answer that is known."""
    retriever, writer = Retriever(bundle), ItemWriter(bundle.items, len(bundle.rows))

    def work(body: bytes, items: np.ndarray, scores: np.ndarray) -> bytes:
        request = RecommendRequest.model_validate_json(body)
        head = {"bundle": "run=0", "known_user": True, "history_length": 9, "fresh": 0, "ignored": {"history": []}}
        return writer.write(head, items, scores, request.fields, request.titles)

    calls: list[Callable[[], Any]] = []
    for query in queries(bundle, k):
        found = retriever.recommend(query)
        body = orjson.dumps({"user_id": query.user_id, "k": k, "titles": False})
        calls.append(partial(work, body, found.items, found.scores))
    return calls


def queries(bundle: Bundle, k: int) -> list[Query]:
    """A request of each user."""
    return [Query(user_id=name, k=k) for name in names_of(bundle)]


def names_of(bundle: Bundle) -> list[str]:
    """The ids of the users."""
    return bundle.users.ids.decode(np.array(users_of(bundle)))


def timed(calls: list[Callable[[], Any]], seconds: float, rest: float = 0.0) -> dict[str, float]:
    """Call in turn for so long, after a warm-up: calls a second of wall time, CPU and median microseconds a call.

    rest: seconds to sleep before each call. The median is of the calls alone.
    """
    for call in calls[:WARM]:
        call()
    walls: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        if rest:
            time.sleep(rest)
        now = time.perf_counter()
        calls[len(walls) % len(calls)]()
        walls.append(time.perf_counter() - now)
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "per_second": len(walls) / elapsed,
        "cpu_us": 1e6 * cpu / len(walls),
        "p50_us": 1e6 * statistics.median(walls),
    }


def main() -> None:
    """Print what one kind of loop measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    kinds = {"raw": raw, "engine": engine, "json": json_only}
    parser.add_argument("--what", choices=kinds, default="raw")
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rest-us", type=float, default=0.0, help="microseconds of sleep before each call")
    arguments = parser.parse_args()
    calls = kinds[arguments.what](Bundle.open(arguments.bundle), arguments.k)
    print(json.dumps(timed(calls, arguments.seconds, arguments.rest_us / 1e6)))


if __name__ == "__main__":
    main()
