"""The explorer page in a real browser: by keyboard, on a phone, by its address, with a key, without a thing."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from browser_fixture import PHONE, answer, new_page, options, query, retrieved, titles, wait_for
from serving_fixture import item_id, running_server


def test_everything_is_done_with_the_keyboard(page: Any) -> None:
    page.goto("/")
    page.get_by_role("button", name="Somebody new").wait_for()
    press(page, "Tab", until="Look up a user")
    page.keyboard.type("u3")
    options(page).filter(has_text="u30").wait_for()
    page.keyboard.press("ArrowDown")
    assert page.locator('[role="option"][aria-selected="true"]').inner_text().startswith("u3")
    page.keyboard.press("Enter")
    retrieved(page).wait_for()
    first = titles(page)[0]
    press(page, "Tab", until=f"Exclude {first}")
    page.keyboard.press("Enter")
    wait_for(page, lambda: first not in titles(page))
    press(page, "Shift+Tab", until=titles(page)[0])  # the focus is where the excluded item was
    second = titles(page)[0]
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=second).wait_for()
    press(page, "Tab", until="Show on the map")
    page.keyboard.press("Enter")
    press(page, "Tab", until="Map of 60 items")
    for key in ("+", "ArrowLeft", "0"):
        page.keyboard.press(key)


def press(page: Any, key: str, until: str) -> None:
    """Press a key until what has the focus is called so, with a ring around it."""
    for _ in range(60):
        page.keyboard.press(key)
        name, ring = page.evaluate(
            """() => {
              const it = document.activeElement, name = it.ariaLabel ?? it.labels?.[0]?.innerText ?? it.innerText;
              return [name, getComputedStyle(it).outlineStyle];
            }"""
        )
        if name == until:
            assert ring == "solid"
            return
    raise AssertionError(f"{key} never led to {until!r}")


def test_focus_stays_on_what_is_changed(page: Any) -> None:
    chosen = json.dumps([{"field": "category", "in": ["film"]}])
    page.goto(f"/?{urlencode({'user': 'u3', 'filter': chosen})}")
    page.get_by_role("button", name="category is: change").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="category is not: change").wait_for()
    assert page.evaluate("document.activeElement.ariaLabel") == "category is not: change"


@pytest.mark.parametrize(
    ("path", "held", "place"),
    [
        ("/?user=u3", "**/v1/recommend", ".results"),
        ("/?view=item&item=i008", "**/v1/items/i008", "section[aria-label=Item]"),
        ("/?view=map", "**/v1/map*", ".stage"),
    ],
)
def test_waiting_is_shown_before_and_between_answers(page: Any, path: str, held: str, place: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    requests: list[Any] = []
    page.route(held, lambda route: requests.append(route))
    page.goto(path)
    page.locator(place).get_by_text("Loading").wait_for()
    page.locator(f"{place}[aria-busy]").wait_for()
    assert page.locator(place).evaluate("it => getComputedStyle(it).opacity") == "0.55"
    requests.pop().continue_()
    page.locator(f"{place}:not([aria-busy])").wait_for()
    assert page.locator(place).get_by_text("Loading").count() == 0


def test_server_of_short_answers_is_asked_for_no_more(browser: Any, bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log", max_k=7) as (url, _), new_page(browser, url) as page:
        page.goto("/?user=u3")
        wait_for(page, lambda: len(titles(page)) == 7)
        assert page.get_by_label("Items to retrieve").input_value() == "7"


def test_enter_right_after_typing_takes_what_was_typed(page: Any) -> None:
    page.goto("/")
    page.get_by_role("combobox", name="Look up a user").click()
    options(page).first.wait_for()
    page.keyboard.type("u3")
    page.keyboard.press("Enter")
    wait_for(page, lambda: query(page) == {"user": ["u3"]})


def test_escape_closes_the_suggestions(page: Any) -> None:
    page.goto("/")
    field = page.get_by_role("combobox", name="Look up a user")
    field.fill("u")
    options(page).first.wait_for()
    field.press("Escape")
    assert options(page).count() == 0
    assert field.get_attribute("aria-expanded") == "false"


def test_address_is_a_link_and_back_goes_back(page: Any, explorer_url: str) -> None:
    page.goto("/?user=u3&k=10&exclude=i008")
    wait_for(page, lambda: titles(page) == answer(explorer_url, user_id="u3", k=10, exclude=["i008"]))
    first = titles(page)[0]
    retrieved(page).get_by_role("link", name=first, exact=True).click()
    page.get_by_role("heading", name=first).wait_for()
    page.go_back()
    wait_for(page, lambda: titles(page)[:1] == [first] and "view" not in query(page))


@pytest.mark.parametrize("path", ["/", "/?user=u3&compare=1", "/?view=item&item=i008&compare=1", "/?view=map", "/docs"])
def test_nothing_is_wider_than_a_phone(browser: Any, explorer_url: str, path: str) -> None:
    with new_page(browser, explorer_url, PHONE) as page:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.locator("main a, main button, main canvas, pre").count() > 0


def test_words_in_empty_fields_can_be_read_in_the_dark(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto("/")
    field = page.get_by_role("combobox", name="Look up a user")
    words, legible = (
        field.evaluate(f"it => getComputedStyle({what}).color")
        for what in ("it, '::placeholder'", "document.getElementById('bundle')")
    )
    assert words == legible


def test_what_is_folded_away_on_a_phone_is_counted(browser: Any, explorer_url: str) -> None:
    chosen = json.dumps([{"field": "category", "in": ["film"]}])
    with new_page(browser, explorer_url, PHONE) as page:
        page.goto(f"/?{urlencode({'user': 'u3', 'filter': chosen, 'exclude': 'i008'})}")
        page.get_by_text("Filter and options (2 set)").wait_for()


def test_unknown_user_and_item_are_told_of(browser: Any, explorer_url: str) -> None:
    with new_page(browser, explorer_url, refused=404) as page:
        page.goto("/?user=stranger")
        page.get_by_role("alert").filter(has_text="user 'stranger' is not in this bundle").wait_for()
        page.goto("/?view=item&item=nope")
        page.get_by_role("alert").filter(has_text="item 'nope' is not in this bundle").wait_for()


def test_title_that_could_not_be_told_is_asked_for_again(browser: Any, explorer_url: str) -> None:
    with new_page(browser, explorer_url, refused=429) as page:
        page.route("**/v1/items/i008", lambda route: route.fulfill(status=429, body="{}"), times=1)
        page.goto("/?user=u3&exclude=i008")
        page.get_by_role("button", name="Remove i008").wait_for()
        page.get_by_label("Items to retrieve").select_option("10")
        page.get_by_role("button", name="Remove Title 8").wait_for()


def test_key_is_asked_for_until_it_is_known(browser: Any, bundle_path: Path, tmp_path: Path) -> None:
    keys = [{"name": "people", "sha256": hashlib.sha256(b"sesame").hexdigest()}]
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    with (
        running_server(bundle_path, tmp_path / "log", keys=str(tmp_path / "keys.yaml")) as (url, _),
        new_page(browser, url, refused=401) as page,
    ):
        page.goto("/?user=u3")
        for _ in range(3):
            page.keyboard.press("Escape")
        page.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("the API key is not known").wait_for()
        page.get_by_label("Key", exact=True).fill("sesame")
        page.keyboard.press("Enter")
        retrieved(page).wait_for()
        page.reload()
        retrieved(page).wait_for()


def test_awkward_id_survives_the_address(page: Any) -> None:
    page.goto(f"/?{urlencode({'view': 'item', 'item': item_id(7)})}")
    page.get_by_role("heading", name="Title 7").wait_for()
    page.get_by_role("link", name="Show on the map").click()
    assert query(page)["item"] == [item_id(7)]
