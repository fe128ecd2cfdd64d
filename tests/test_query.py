"""`twotower query`: the bundle asked without a server."""

from pathlib import Path

import pytest
from serving_fixture import CATEGORIES, config, item_id

from pipeline.errors import RequestError
from pipeline.query import ask, show

FILMS = '{"field": "category", "eq": "film"}'


@pytest.fixture(scope="module")
def settings(serving_dir: Path, bundle_path: Path):
    return config(serving_dir)


def category(item: str) -> str:
    return next(CATEGORIES[(i - 1) % 3] for i in range(1, 301) if item_id(i) == item)


def test_filter_holds_for_users_and_for_items(settings):
    for user, item in (("u3", None), (None, "i001")):
        items = ask(settings, user, None, item, 12, FILMS).items
        assert len(items) == 12
        assert {category(found["item_id"]) for found in items} == {"film"}


def test_answer_says_what_was_asked(settings):
    assert ask(settings, "u3", None, None, 2, None).question == "top 2 for user u3"
    assert ask(settings, None, ["i001"], None, 2, None).question == "top 2 for this history"
    assert ask(settings, None, None, "i001", 2, None).question == "top 2 like i001, “Title 1”"


@pytest.mark.parametrize("as_json", [True, False])
def test_items_of_the_history_that_are_unknown_are_named(settings, capsys, as_json):
    show(ask(settings, None, ["nope", "i001"], None, 1, None), as_json)
    assert ('"ignored": ["nope"]' if as_json else "left out: nope") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chosen", "message"), [("{", "`--filter` is not JSON"), ('{"field": "catgory"}', "Did you mean")]
)
def test_filter_that_is_none_is_refused(settings, chosen, message):
    with pytest.raises(RequestError, match=message):
        ask(settings, "u3", None, None, 5, chosen)
