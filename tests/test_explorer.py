"""The explorer page in a real browser, on a real server: for whom to retrieve, what not, and beside what."""

import json
from typing import Any

import httpx
import pytest
from browser_fixture import answer, query, retrieved, search, titles, wait_for


def test_user_is_looked_up(page: Any, explorer_url: str) -> None:
    page.goto("/")
    search(page, "Look up a user", "u3", "u3")
    retrieved(page).wait_for()
    assert query(page) == {"user": ["u3"]}
    assert titles(page) == answer(explorer_url, user_id="u3")
    assert "gender" in page.locator(".who").inner_text()


def test_history_is_composed_and_taken_apart(page: Any, explorer_url: str) -> None:
    page.goto("/")
    for title in ("Title 8", "Title 19"):
        search(page, "Add to the history", title, title)
    wait_for(page, lambda: titles(page) == answer(explorer_url, history=["i008", "i019"]))
    page.get_by_role("button", name="Remove Title 8").click()
    wait_for(page, lambda: titles(page) == answer(explorer_url, history=["i019"]))


def test_result_is_added_to_the_history(page: Any) -> None:
    page.goto("/?user=u3")
    first = retrieved(page).get_by_role("button", name="to the history").first
    name = first.get_attribute("aria-label").split(" ", 1)[1].removesuffix(" to the history")
    first.click()
    page.get_by_role("button", name=f"Remove {name}").wait_for()
    wait_for(page, lambda: name not in titles(page))


def test_filter_by_value_and_its_negation(page: Any, explorer_url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Field", exact=True).select_option("category")
    search(page, "Values of category", "fi", "film")
    film = {"field": "category", "in": ["film"]}
    wait_for(page, lambda: titles(page) == answer(explorer_url, user_id="u3", filter=film))
    page.get_by_role("button", name="category is: change").click()
    wait_for(page, lambda: titles(page) == answer(explorer_url, user_id="u3", filter={"not": film}))


def test_filter_by_range(page: Any, explorer_url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Field", exact=True).select_option("price")
    page.get_by_label("From, price").fill("5")
    page.get_by_label("To, price").fill("30")
    page.get_by_role("button", name="Add", exact=True).click()
    wanted = {"field": "price", "gte": 5, "lte": 30}
    wait_for(page, lambda: titles(page) == answer(explorer_url, user_id="u3", filter=wanted))


def test_filter_that_nothing_passes_says_so(page: Any) -> None:
    page.goto('/?user=u3&filter=[{"field":"category","in":["nowhere"]}]')
    page.get_by_text("No items. Loosen the filter").wait_for()


def test_item_is_excluded_and_let_in_again(page: Any, explorer_url: str) -> None:
    page.goto("/?user=u3")
    retrieved(page).wait_for()
    first = titles(page)[0]
    page.get_by_role("button", name=f"Exclude {first}", exact=True).click()
    wait_for(page, lambda: first not in titles(page) and len(titles(page)) == 20)
    page.get_by_role("button", name=f"Remove {first}").click()
    wait_for(page, lambda: titles(page)[0] == first)


def test_somebody_new_gets_what_an_empty_history_does(page: Any, explorer_url: str) -> None:
    page.goto("/")
    page.get_by_role("button", name="Somebody new").click()
    wait_for(page, lambda: titles(page) == answer(explorer_url, history=[]))


@pytest.mark.parametrize(
    ("path", "asked"), [("/?user=u3&compare=1", "/v1/recommend"), ("/?view=item&item=i008&compare=1", "/similar")]
)
def test_second_bundle_is_asked_for_the_fields_it_has(page: Any, explorer_url: str, path: str, asked: str) -> None:
    about = httpx.get(f"{explorer_url}/v1/bundle", params={"bundle": "compare"}).json()
    fewer = json.dumps({**about, "item_fields": ["price"]})
    page.route("**/v1/bundle?bundle=compare", lambda route: route.fulfill(body=fewer, content_type="application/json"))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(f"{request.url} {request.post_data}"))
    page.goto(path)
    wait_for(page, lambda: any(asked in each and "compare" in each and "price" in each for each in requests))
    assert not [each for each in requests if asked in each and "compare" in each and "category" in each]


def test_two_bundles_are_compared(page: Any, explorer_url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Compare with the other bundle").check()
    served, compared = page.get_by_role("region", name="Served"), page.get_by_role("region", name="Compared")
    compared.wait_for()
    before, after = answer(explorer_url, user_id="u3"), answer(explorer_url, user_id="u3", bundle="compare")
    assert (titles(served), titles(compared)) == (before, after)
    both = len(set(before) & set(after))
    assert 0 < both < 20
    assert f"{both} of 20 in both lists, overlap@20 = {both / 20:.2f}" in page.locator(".overlap").inner_text()
    assert served.locator(".change.gone").count() == compared.locator(".change.new").count() == 20 - both
    moved = next(place for place, title in enumerate(after) if title in before and before.index(title) > place)
    mark = compared.locator("li").nth(moved).locator(".change")
    assert f"up {before.index(after[moved]) - moved}" in mark.inner_text()
