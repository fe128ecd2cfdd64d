"""The bytes of answers: what json would write, whether kept or not."""

import json

import numpy as np
import pytest
from serving_fixture import ITEMS

from pipeline.errors import RequestError
from serving import answers
from serving.answers import ItemWriter
from serving.bundle import Bundle
from serving.records import Items


@pytest.fixture(scope="module")
def items(bundle_path) -> Items:
    return Bundle.open(bundle_path).items


def written(writer: ItemWriter, indices: list[int], fields: tuple[str, ...] = ()) -> list[dict]:
    scores = np.linspace(1, -1, len(indices), dtype=np.float32)
    return json.loads(writer.write(np.array(indices, np.int32), scores, fields))


@pytest.mark.parametrize("fields", [(), ("price",), ("tags", "category")])
def test_answer_says_what_the_catalogue_does(items, fields):
    writer = ItemWriter(items, ITEMS + 1)
    for indices in ([7, 1, 300], [300, 7], [50], []):
        expected = items.describe(np.array(indices, np.int64), fields)
        found = written(writer, indices, fields)
        scores = [record.pop("score") for record in found]
        assert found == expected
        assert scores == pytest.approx(np.linspace(1, -1, len(indices)), abs=1e-6)


def test_choices_of_fields_do_not_mix(items):
    writer = ItemWriter(items, ITEMS + 1)
    assert "fields" not in written(writer, [3])[0]
    assert written(writer, [3], ("price",))[0]["fields"].keys() == {"price"}
    assert "fields" not in written(writer, [3])[0]


def test_titles_are_left_out_when_they_are_not_wanted(items):
    writer, indices, scores = ItemWriter(items, ITEMS + 1), np.array([7, 1]), np.ones(2, np.float32)
    for _ in range(2):
        assert [set(item) for item in json.loads(writer.write(indices, scores, titles=False))] == [
            {"item_id", "score"},
            {"item_id", "score"},
        ]
        assert set(json.loads(writer.write(indices, scores))[0]) == {"item_id", "title", "score"}


def test_what_is_kept_has_a_limit(items, monkeypatch):
    monkeypatch.setattr(answers, "MAX_KEPT", 5)
    monkeypatch.setattr(answers, "MAX_CHOICES", 2)
    writer = ItemWriter(items, ITEMS + 1)
    for fields in ((), ("price",), ("tags",), ()):
        for indices in ([1, 2, 3], [3, 4, 5, 6], [1], [9, 8, 7, 6, 5, 4, 3]):
            assert [r["item_id"] for r in written(writer, indices, fields)] == [
                r["item_id"] for r in items.describe(np.array(indices))
            ]


def test_unknown_field_is_refused(items):
    with pytest.raises(RequestError, match="Did you mean `price`"):
        ItemWriter(items, ITEMS + 1).write(np.array([1], np.int32), np.ones(1, np.float32), ("prise",))


def test_scores_are_rounded_not_cut(items):
    writer = ItemWriter(items, ITEMS + 1)
    found = json.loads(writer.write(np.array([1, 2]), np.array([0.1234567, -1e-9], np.float32)))
    assert [record["score"] for record in found] == [0.123457, 0.0]
