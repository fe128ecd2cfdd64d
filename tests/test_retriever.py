"""Retrieval logic against Keras and numpy: the model's own vectors, scored by brute force."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_fixture import COLD_USER, ITEMS, TRAINED, history, item_id, make_retriever, sources, user_id

from pipeline.catalogue import user_table
from pipeline.dataset import user_inputs
from pipeline.errors import RequestError
from serving.bundle import Bundle
from serving.errors import NotFoundError
from serving.filters import parse_filter
from serving.retriever import Query, Retrieved, Retriever

LENGTH = 5
SEEN_ALMOST_ALL = 1
"""Index of the user of the fixture who has seen all but 21 items."""


@pytest.fixture(scope="module")
def retriever(bundle_path: Path) -> Retriever:
    return Retriever(Bundle.open(bundle_path))


@pytest.fixture(scope="module")
def item_vectors(serving_dir: Path, bundle_path: Path) -> np.ndarray:
    """float32 [ITEMS + 1, D], by item index; row 0 is the unknown item."""
    return sources(serving_dir).model.item_vectors(np.arange(ITEMS + 1, dtype=np.int32))


def keras_scores(serving_dir: Path, items: np.ndarray, user: int, seen: list[int]) -> np.ndarray:
    """The model's score of every item index for a user with the fields of `user` (0: none) and a history."""
    made_of = sources(serving_dir)
    table = user_table(made_of.tables, made_of.vocabularies)
    offsets = np.array([0, len(seen)])
    inputs = user_inputs((offsets, np.array(seen, np.int32)), np.array([user]), table, LENGTH)
    return items @ made_of.model.user_vectors(inputs)[0]


def best(scores: np.ndarray, k: int, excluded: list[int]) -> np.ndarray:
    """The k best item indices 1 .. ITEMS that are not excluded."""
    order = np.argsort(-scores, kind="stable")
    return order[~np.isin(order, [0, *excluded])][:k]


def ids(indices: Any) -> list[str]:
    return [item_id(int(index)) for index in indices]


def assert_found(found: Retrieved, scores: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.scores, scores[expected], atol=1e-4)
    np.testing.assert_allclose(scores[found.items], scores[expected], atol=1e-4)


@pytest.mark.parametrize("user", [2, 5, 14])
def test_known_user_gets_the_best_unseen_items(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray, user: int
) -> None:
    seen = history(user)
    scores = keras_scores(serving_dir, item_vectors, user, seen)
    found = retriever.recommend(Query(user_id(user), k=40))
    assert_found(found, scores, best(scores, 40, seen))
    assert not set(found.items.tolist()) & set(seen)
    assert found.known_user


def test_exclude_seen_false_returns_seen_items_too(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray
) -> None:
    scores = keras_scores(serving_dir, item_vectors, 4, history(4))
    found = retriever.recommend(Query(user_id(4), k=ITEMS, exclude_seen=False))
    assert len(found.items) == ITEMS
    assert_found(found, scores, best(scores, ITEMS, []))


def test_user_who_has_seen_almost_everything_gets_all_the_rest(retriever: Retriever) -> None:
    found = retriever.recommend(Query(user_id(SEEN_ALMOST_ALL), k=100))
    assert sorted(found.items.tolist()) == sorted(set(range(1, ITEMS + 1)) - set(history(SEEN_ALMOST_ALL)))


def test_history_of_the_request_is_appended_to_the_known_one(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray
) -> None:
    seen = [*history(6), 50, 51]
    scores = keras_scores(serving_dir, item_vectors, 6, seen)
    found = retriever.recommend(Query(user_id(6), history=ids([50, 51]), k=30))
    assert_found(found, scores, best(scores, 30, seen))
    assert found.history.tolist() == [item for item in seen if item]


def test_features_of_the_request_replace_the_known_ones(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray
) -> None:
    # Users 6 and 9 differ in age and interests only.
    own = sources(serving_dir).tables.users().to_pylist()[8]
    features = {name: own[name] for name in ("age", "interests")}
    scores = keras_scores(serving_dir, item_vectors, 9, history(6))
    found = retriever.recommend(Query(user_id(6), features=features, k=30))
    assert_found(found, scores, best(scores, 30, history(6)))


def test_anonymous_request_equals_the_known_user_it_describes(retriever: Retriever, serving_dir: Path) -> None:
    own = sources(serving_dir).tables.users().to_pylist()[2]
    features = {name: own[name] for name in ("gender", "age", "interests")}
    known = retriever.recommend(Query(user_id(3), k=20))
    anonymous = retriever.recommend(Query(history=ids(i for i in history(3) if i), features=features, k=20))
    assert anonymous.items.tolist() == known.items.tolist()
    np.testing.assert_array_equal(anonymous.scores, known.scores)
    assert not anonymous.known_user


def test_empty_history_is_a_cold_user_like_a_known_one_without_events(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray
) -> None:
    known = retriever.recommend(Query(COLD_USER, k=20))
    anonymous = retriever.recommend(Query(history=[], k=20))
    assert anonymous.items.tolist() == known.items.tolist()
    scores = keras_scores(serving_dir, item_vectors, int(COLD_USER[1:]) + 1, [])
    assert_found(known, scores, best(scores, 20, []))


def test_unknown_history_items_are_ignored_and_reported(retriever: Retriever) -> None:
    mixed = retriever.recommend(Query(history=["nope", *ids([3, 9]), "neither"], k=10))
    known = retriever.recommend(Query(history=ids([3, 9]), k=10))
    assert mixed.items.tolist() == known.items.tolist()
    assert mixed.ignored == {"history": ["nope", "neither"], "exclude": []}


def test_history_of_ten_thousand_items_counts_its_most_recent(retriever: Retriever) -> None:
    recent = ids([5, 6, 7, 8, 9])
    long = retriever.recommend(Query(history=[*ids([1, 2]) * 5000, *recent], k=10, exclude_seen=False))
    short = retriever.recommend(Query(history=recent, k=10, exclude_seen=False))
    assert long.items.tolist() == short.items.tolist()


def test_unknown_user_is_not_found(retriever: Retriever) -> None:
    with pytest.raises(NotFoundError, match="user 'stranger' is not in this bundle"):
        retriever.recommend(Query("stranger"))


@pytest.mark.parametrize("query", [Query("stranger", history=[]), Query("stranger", features={"gender": "f"})])
def test_unknown_user_with_history_or_features_is_served(retriever: Retriever, query: Query) -> None:
    found = retriever.recommend(query)
    assert (len(found.items), found.known_user) == (50, False)


def test_request_for_nobody_is_refused(retriever: Retriever) -> None:
    with pytest.raises(RequestError, match="give `user_id`, `history` or `features`"):
        retriever.recommend(Query())


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(retriever: Retriever, k: int) -> None:
    with pytest.raises(RequestError, match="`k` must be at least 1"):
        retriever.recommend(Query(history=[], k=k))


def test_excluded_items_do_not_come_back(retriever: Retriever) -> None:
    free = retriever.recommend(Query(history=[], k=60))
    banned = ids(free.items[::2])
    found = retriever.recommend(Query(history=[], k=30, exclude=[*banned, banned[0], "nope"]))
    assert found.items.tolist() == free.items[1::2].tolist()
    assert found.ignored["exclude"] == ["nope"]


def test_similar_items_are_those_of_highest_cosine(retriever: Retriever, item_vectors: np.ndarray) -> None:
    norms = np.linalg.norm(item_vectors, axis=1)
    cosines = item_vectors @ item_vectors[7] / (norms * norms[7])
    found = retriever.similar(item_id(7), 25)
    assert_found(found, cosines, best(cosines, 25, [7]))


def test_similar_to_an_unknown_item_is_not_found(retriever: Retriever) -> None:
    with pytest.raises(NotFoundError, match="item 'nope' is not in this bundle"):
        retriever.similar("nope", 5)


def test_item_look_up(retriever: Retriever) -> None:
    assert retriever.item(item_id(8)) == {
        "item_id": "i008",
        "title": "Title 8",
        "fields": {"category": "film", "tags": ["a", "b", "c"], "price": 7.0},
        "train_events": TRAINED - 7,
        "indexed": True,
    }


def test_item_without_title_or_price(retriever: Retriever) -> None:
    found = retriever.item(item_id(101))
    assert found["fields"]["price"] is None
    assert retriever.item(item_id(100))["title"] is None


def test_user_look_up(retriever: Retriever) -> None:
    found = retriever.user(user_id(4), recent=2)
    expected = [item for item in history(4) if item]
    assert [item["item_id"] for item in found["recent"]] == ids(expected[-2:])
    assert found["history_length"] == len(expected)
    assert found["fields"] == {"gender": "m", "age": 19.0, "interests": ["c"]}


def test_user_without_row_or_event(retriever: Retriever) -> None:
    found = retriever.user(COLD_USER)
    assert found == {
        "user_id": COLD_USER,
        "fields": {"gender": None, "age": None, "interests": None},
        "history_length": 0,
        "recent": [],
    }


def test_fields_asked_for_come_with_each_item(retriever: Retriever) -> None:
    (record,) = retriever.bundle.items.describe(np.array([8]), ["price", "tags"])
    assert record == {"item_id": "i008", "title": "Title 8", "fields": {"price": 7.0, "tags": ["a", "b", "c"]}}


def test_unknown_item_field_is_refused_with_the_nearest_name(retriever: Retriever) -> None:
    with pytest.raises(RequestError, match=r"unknown item field 'prize'\. Did you mean `price`"):
        retriever.bundle.items.check_fields(["prize"])


def test_catalogue_of_trained_items_retrieves_no_cold_item(serving_dir: Path, bundle_path: Path) -> None:
    trained = make_retriever(serving_dir, name="trained", catalogue="trained")
    found = trained.recommend(Query(history=[], k=ITEMS))
    assert sorted(found.items.tolist()) == list(range(1, TRAINED + 1))
    assert trained.item(item_id(ITEMS))["indexed"] is False
    with pytest.raises(NotFoundError, match="indexes trained items only"):
        trained.similar(item_id(ITEMS), 5)


@pytest.mark.parametrize("index", ["IVF16,Flat", "HNSW16"])
def test_approximate_index_answers_as_the_exact_one(serving_dir: Path, retriever: Retriever, index: str) -> None:
    approximate = make_retriever(serving_dir, name="approximate", index=index)
    overlap = []
    for user in range(2, 30):
        exact = retriever.recommend(Query(user_id(user), k=10)).items
        found = approximate.recommend(Query(user_id(user), k=10)).items
        assert len(found) == 10
        overlap.append(len(np.intersect1d(exact, found)) / 10)
    assert np.mean(overlap) >= 0.95


FILTERS = {
    "category": ({"field": "category", "eq": "film"}, lambda i: i % 3 == 1),
    "tags": ({"field": "tags", "in": ["a", "d"]}, lambda i: i & 9 > 0),
    "price": ({"field": "price", "gte": 10, "lt": 40}, lambda i: 10 <= i < 40 and i % 10),
}
"""Filters, and which rows of the fixture's table (item index - 1) they allow."""


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filter_keeps_the_best_of_what_it_allows(
    retriever: Retriever, serving_dir: Path, item_vectors: np.ndarray, name: str
) -> None:
    value, allows = FILTERS[name]
    refused = [i for i in range(1, ITEMS + 1) if not allows(i - 1)]
    scores = keras_scores(serving_dir, item_vectors, 5, history(5))
    wanted = parse_filter(value, retriever.bundle.items.kinds)
    found = retriever.recommend(Query(user_id(5), k=30, filter=wanted))
    assert_found(found, scores, best(scores, 30, [*history(5), *refused]))
    assert not set(found.items.tolist()) & set(refused)


def test_similar_items_can_be_filtered(retriever: Retriever, item_vectors: np.ndarray) -> None:
    norms = np.linalg.norm(item_vectors, axis=1)
    cosines = item_vectors @ item_vectors[7] / (norms * norms[7])
    wanted = parse_filter(FILTERS["category"][0], retriever.bundle.items.kinds)
    found = retriever.similar(item_id(7), 25, exclude=ids([2, 5]), filter=wanted)
    others = [i for i in range(1, ITEMS + 1) if (i - 1) % 3 != 1]
    assert_found(found, cosines, best(cosines, 25, [7, 2, 5, *others]))


def test_batch_answers_as_one_by_one(retriever: Retriever) -> None:
    wanted = parse_filter(FILTERS["tags"][0], retriever.bundle.items.kinds)
    queries = [
        Query(user_id(3), k=5),
        Query(user_id(SEEN_ALMOST_ALL), k=100),
        Query(user_id(4), k=12, filter=wanted),
        Query(history=ids([3, 9]), features={"gender": "f"}, k=300, exclude_seen=False),
        Query(history=[], exclude=[*ids([4]), "nope"], k=7),
    ]
    together = retriever.recommend_batch(queries)
    assert retriever.recommend_batch([]) == []
    for query, found in zip(queries, together, strict=True):
        alone = retriever.recommend(query)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        assert (found.history.tolist(), found.ignored) == (alone.history.tolist(), alone.ignored)
        assert found.known_user == alone.known_user


def test_query_of_a_batch_that_cannot_be_answered_is_named(retriever: Retriever) -> None:
    with pytest.raises(NotFoundError, match=r"^queries\[1\]: user 'stranger' is not in this bundle"):
        retriever.recommend_batch([Query(user_id(3)), Query("stranger"), Query(history=[], k=0)])
