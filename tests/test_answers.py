"""The bytes of answers: what json would write, whether kept or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fixture import ITEMS

from pipeline.errors import RequestError
from serving import answers
from serving.answers import ItemWriter
from serving.bundle import Bundle
from serving.ids import Ids
from serving.records import Items

HEAD: dict[str, Any] = {"bundle": "run=0", "ignored": {}}


@pytest.fixture(scope="module")
def items(bundle_path: Path) -> Items:
    return Bundle.open(bundle_path).items


def written(writer: ItemWriter, indices: list[int], fields: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    scores = np.linspace(1, -1, len(indices), dtype=np.float32)
    return json.loads(writer.write(HEAD, np.array(indices, np.int32), scores, fields))["items"]


@pytest.mark.parametrize("fields", [(), ("price",), ("tags", "category")])
def test_answer_says_what_the_catalogue_does(items: Items, fields: tuple[str, ...]) -> None:
    writer = ItemWriter(items, ITEMS + 1)
    for indices in ([7, 1, 300], [300, 7], [50], []):
        expected = items.describe(np.array(indices, np.int64), fields)
        found = written(writer, indices, fields)
        scores = [record.pop("score") for record in found]
        assert found == expected
        assert scores == pytest.approx(np.linspace(1, -1, len(indices)), abs=1e-6)


within = st.floats(-9.75, 9.75, width=32, allow_subnormal=False)
scores_of_any_kind = st.one_of(
    st.lists(within, max_size=30),
    st.lists(st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False), max_size=30),
    st.lists(st.floats(0, 1, width=32), max_size=30),
    st.lists(st.sampled_from([0.0, -1e-9, 9.9995, -9.9995, 10.0, -1.0, 1.0, 0.999999, 0.9999995]), max_size=30),
).map(lambda scores: sorted(scores, reverse=True))


@given(
    names=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=30, unique=True),
    scores=scores_of_any_kind,
    titles=st.booleans(),
    seed=st.integers(0, 9),
)
def test_answers_are_those_of_json(names: list[str], scores: list[float], titles: bool, seed: int) -> None:
    values = pa.array(names, pa.large_string())
    items = Items(Ids.of(values), pa.array([name.upper() for name in names]), np.ones(len(names), np.int64), {})
    writer, rng = ItemWriter(items, len(names) + 1), np.random.default_rng(seed)
    for head in ({"a": 1}, {"bundle": "é", "known": True}):  # the second time some are kept already
        chosen = rng.integers(0, len(names), len(scores))
        listed = [
            {"item_id": names[place], **({"title": names[place].upper()} if titles else {}), "score": score}
            for place, score in zip(chosen.tolist(), np.float32(scores).astype(float).tolist(), strict=True)
        ]
        expected = json.loads(json.dumps({**head, "items": listed}))
        answer = json.loads(writer.write(head, chosen + 1, np.array(scores, np.float32), titles=titles))
        for told, exact in zip(answer["items"], expected["items"], strict=True):
            assert told.pop("score") == pytest.approx(exact.pop("score"), rel=1e-9, abs=5.1e-7)
        assert answer == expected


def test_nothing_of_the_answers_before_is_left() -> None:
    names = ["a", "bc" * 5, "d" * 20, "é" * 20, "f" * 70]  # wider and wider, and too wide at last
    items = Items(Ids.of(pa.array(names, pa.large_string())), pa.array(names), np.ones(5, np.int64), {})
    writer = ItemWriter(items, len(names) + 1)
    for known in range(1, len(names) + 1):
        for scores in ([0.5, 0.25], [9.5, -3.125], [0.75, 0.125], [1e9, 0.5], [0.625, 0.0]):
            answer = writer.write(HEAD, np.array([known, 1]), np.float32(scores), titles=False)
            expected = [{"item_id": names[known - 1], "score": scores[0]}, {"item_id": "a", "score": scores[1]}]
            assert json.loads(answer) == {**HEAD, "items": expected}


def test_score_that_is_no_number_is_null(items: Items) -> None:
    for scores in ([np.nan, 0.5], [0.5, np.inf]):
        answer = ItemWriter(items, ITEMS + 1).write(HEAD, np.array([1, 2]), np.float32(scores), titles=False)
        assert sum(record["score"] is None for record in json.loads(answer)["items"]) == 1


def test_choices_of_fields_do_not_mix(items: Items) -> None:
    writer = ItemWriter(items, ITEMS + 1)
    assert "fields" not in written(writer, [3])[0]
    assert written(writer, [3], ("price",))[0]["fields"].keys() == {"price"}
    assert "fields" not in written(writer, [3])[0]


def test_titles_are_left_out_when_they_are_not_wanted(items: Items) -> None:
    writer, indices, scores = ItemWriter(items, ITEMS + 1), np.array([7, 1]), np.ones(2, np.float32)
    for _ in range(2):
        short = json.loads(writer.write(HEAD, indices, scores, titles=False))["items"]
        assert [set(item) for item in short] == [{"item_id", "score"}] * 2
        full = json.loads(writer.write(HEAD, indices, scores))["items"]
        assert set(full[0]) == {"item_id", "title", "score"}


@pytest.mark.parametrize("titles", [True, False])
def test_what_is_kept_has_a_limit(items: Items, monkeypatch: pytest.MonkeyPatch, titles: bool) -> None:
    monkeypatch.setattr(answers, "MAX_KEPT", 5)
    monkeypatch.setattr(answers, "MAX_CHOICES", 2)
    writer = ItemWriter(items, ITEMS + 1)
    for fields in ((), ("price",), ("tags",), ()):
        for indices in ([1, 2, 3], [3, 4, 5, 6], [1], [9, 8, 7, 6, 5, 4, 3]):
            answer = writer.write(HEAD, np.array(indices), np.ones(len(indices), np.float32), fields, titles)
            assert [r["item_id"] for r in json.loads(answer)["items"]] == [
                r["item_id"] for r in items.describe(np.array(indices))
            ]


@pytest.mark.parametrize("indices", [[1], []])
def test_unknown_field_is_refused(items: Items, indices: list[int]) -> None:
    with pytest.raises(RequestError, match="Did you mean `price`"):
        ItemWriter(items, ITEMS + 1).write(HEAD, np.array(indices, int), np.ones(len(indices), np.float32), ("prise",))


def test_what_another_bundle_had_ready_is_ready(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "STEP", 2)
    before = ItemWriter(items, ITEMS + 1)
    for fields, titles in (((), True), ((), False), (("price",), True), (("tags",), True)):
        before.write(HEAD, np.array([7, 1, 300, 50, 2]), np.ones(5, np.float32), fields, titles)
    # The next bundle knows the items in another order, does not know one of them, and has no tags.
    rows = pa.array(np.arange(len(items) - 2, -1, -1))
    ids, titles = Ids.of(items.ids.values.take(rows)), items.titles.take(rows)
    now = Items(ids, titles, items.counts, {"price": items.fields["price"].take(rows)})
    names = items.ids.decode(np.array([7, 1, 50, 2]))
    expected = now.describe(now.ids.encode(names), ["price"])
    writer = ItemWriter(now, ITEMS)
    assert len(list(writer.make_ready(before))) == 9
    monkeypatch.delattr(Items, "describe")
    for fields, title in (((), True), ((), False), (("price",), True)):
        answer = writer.write(HEAD, now.ids.encode(names), np.ones(4, np.float32), fields, title)
        told = json.loads(answer)["items"]
        shown = {"item_id", *(["title"] if title else []), *(["fields"] if fields else [])}
        assert told == [{**{key: r[key] for key in r if key in shown}, "score": 1.0} for r in expected]
