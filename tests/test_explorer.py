"""The explorer page in a real browser, on a real server: what people do with it."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import yaml
from browser_fixture import PHONE, new_page, running_browser
from serving_fixture import item_id, near, running_server

GOLDEN = Path(__file__).parent / "bundles" / "v2.zip"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def url(bundle_path: Path, other_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that compares the fixture's bundle with one that lacks the items never trained on."""
    log = tmp_path_factory.mktemp("explorer") / "log"
    with running_server(bundle_path, log, compare=str(other_bundle_path)) as (found, _):
        yield found


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with new_page(browser, url) as opened:
        yield opened


def titles(place: Any) -> list[str]:
    return place.locator(".items .title").all_inner_texts()


def retrieved(page: Any) -> Any:
    return page.get_by_role("list", name="Retrieved items")


def wait_for(page: Any, true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true; the page shows: {page.locator('main').inner_text()[:2000]}")


def answer(url: str, **body: Any) -> list[str]:
    """The titles that the API retrieves."""
    items = httpx.post(f"{url}/v1/recommend", json={"k": 20, **body}).json()["items"]
    return [item["title"] or item["item_id"] for item in items]


def search(page: Any, label: str, text: str, option: str) -> None:
    page.get_by_role("combobox", name=label).fill(text)
    options(page).filter(has_text=option).first.click()


def options(page: Any) -> Any:
    """The suggestions of the search field that has the focus, once they are those of its text."""
    return page.locator('[role="listbox"]:visible:not([aria-busy]) [role="option"]')


def query(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_user_is_looked_up(page: Any, url: str) -> None:
    page.goto("/")
    search(page, "Look up a user", "u3", "u3")
    retrieved(page).wait_for()
    assert query(page) == {"user": ["u3"]}
    assert titles(page) == answer(url, user_id="u3")
    assert "gender" in page.locator(".who").inner_text()


def test_history_is_composed_and_taken_apart(page: Any, url: str) -> None:
    page.goto("/")
    for title in ("Title 8", "Title 19"):
        search(page, "Add to the history", title, title)
    wait_for(page, lambda: titles(page) == answer(url, history=["i008", "i019"]))
    page.get_by_role("button", name="Remove Title 8").click()
    wait_for(page, lambda: titles(page) == answer(url, history=["i019"]))


def test_result_is_added_to_the_history(page: Any, url: str) -> None:
    page.goto("/?user=u3")
    first = retrieved(page).get_by_role("button", name="to the history").first
    name = first.get_attribute("aria-label").split(" ", 1)[1].removesuffix(" to the history")
    first.click()
    page.get_by_role("button", name=f"Remove {name}").wait_for()
    wait_for(page, lambda: name not in titles(page))


def test_filter_by_value_and_its_negation(page: Any, url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Field", exact=True).select_option("category")
    search(page, "Values of category", "fi", "film")
    film = {"field": "category", "in": ["film"]}
    wait_for(page, lambda: titles(page) == answer(url, user_id="u3", filter=film))
    page.get_by_role("button", name="category is: change").click()
    wait_for(page, lambda: titles(page) == answer(url, user_id="u3", filter={"not": film}))


def test_filter_by_range(page: Any, url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Field", exact=True).select_option("price")
    page.get_by_label("From, price").fill("5")
    page.get_by_label("To, price").fill("30")
    page.get_by_role("button", name="Add", exact=True).click()
    wanted = {"field": "price", "gte": 5, "lte": 30}
    wait_for(page, lambda: titles(page) == answer(url, user_id="u3", filter=wanted))


def test_filter_that_nothing_passes_says_so(page: Any) -> None:
    page.goto('/?user=u3&filter=[{"field":"category","in":["nowhere"]}]')
    page.get_by_text("No items. Loosen the filter").wait_for()


def test_item_is_excluded_and_let_in_again(page: Any, url: str) -> None:
    page.goto("/?user=u3")
    retrieved(page).wait_for()
    first = titles(page)[0]
    page.get_by_role("button", name=f"Exclude {first}", exact=True).click()
    wait_for(page, lambda: first not in titles(page) and len(titles(page)) == 20)
    page.get_by_role("button", name=f"Remove {first}").click()
    wait_for(page, lambda: titles(page)[0] == first)


def test_somebody_new_gets_what_an_empty_history_does(page: Any, url: str) -> None:
    page.goto("/")
    page.get_by_role("button", name="Somebody new").click()
    wait_for(page, lambda: titles(page) == answer(url, history=[]))


def test_two_bundles_are_compared(page: Any, url: str) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Compare with the other bundle").check()
    served, compared = page.get_by_role("region", name="Served"), page.get_by_role("region", name="Compared")
    compared.wait_for()
    before, after = answer(url, user_id="u3"), answer(url, user_id="u3", bundle="compare")
    assert (titles(served), titles(compared)) == (before, after)
    both = len(set(before) & set(after))
    assert 0 < both < 20
    assert f"{both} of 20 in both lists, overlap@20 = {both / 20:.2f}" in page.locator(".overlap").inner_text()
    assert served.locator(".change.gone").count() == compared.locator(".change.new").count() == 20 - both
    moved = next(place for place, title in enumerate(after) if title in before and before.index(title) > place)
    mark = compared.locator("li").nth(moved).locator(".change")
    assert f"up {before.index(after[moved]) - moved}" in mark.inner_text()


@pytest.mark.parametrize(("kind", "name"), [("session", "By session"), ("title", "By title")])
def test_listed_neighbours_are_those_of_prepare(page: Any, kind: str, name: str) -> None:
    page.goto("/?view=item&item=i008")
    section = page.get_by_role("region", name=name)
    section.locator(".items").wait_for()
    assert titles(section) == [f"Title {i}" for i in near(8)[kind]]


def test_neighbours_by_embedding_of_both_bundles(page: Any, url: str) -> None:
    page.goto("/?view=item&item=i008&compare=1")
    for name, bundle in (("By embedding", "served"), ("By embedding, compared bundle", "compare")):
        section = page.get_by_role("region", name=name, exact=True)
        section.locator(".items").wait_for()
        found = httpx.get(f"{url}/v1/items/i008/similar", params={"k": 15, "bundle": bundle}).json()["items"]
        assert titles(section) == [item["title"] or item["item_id"] for item in found]


def test_map_shows_points_in_the_colours_of_a_field(page: Any) -> None:
    page.goto("/?view=map&field=category")
    legend = page.get_by_role("list", name="Colours")
    legend.wait_for()
    counts = [int(text.split()[-1]) for text in legend.get_by_role("button").all_inner_texts()]
    assert sum(counts) == 60
    assert colours_on_canvas(page) >= len(counts)
    page.get_by_label("Colour by").select_option("price")
    wait_for(page, lambda: "below" in legend.inner_text())


def colours_on_canvas(page: Any) -> int:
    """How many different colours many pixels have, apart from those of the ground."""
    return page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas"), counts = new Map();
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 190) {
            const colour = data.slice(i, i + 3).join();
            counts.set(colour, (counts.get(colour) ?? 0) + 1);
          }
          return [...counts.values()].filter((count) => count > 60).length;
        }"""
    )


def on_map(url: str) -> tuple[str, str]:
    """The id and title of an item that is on the map."""
    shown = httpx.get(f"{url}/v1/map").json()
    return next((i, title) for i, title in zip(shown["item_id"], shown["title"], strict=True) if title)


def test_item_is_found_on_the_map_and_opened_by_a_click(page: Any, url: str) -> None:
    wanted, title = on_map(url)
    page.goto("/?view=map")
    search(page, "Find an item on the map", title, title)
    page.get_by_text(f"Marked: {title}").wait_for()
    page.locator("canvas").click()  # in the middle, where the item now is
    page.get_by_role("heading", name=title).wait_for()
    assert query(page) == {"view": ["item"], "item": [wanted]}


def test_pointing_at_the_map_tells_the_title(page: Any, url: str) -> None:
    wanted, title = on_map(url)
    page.goto(f"/?view=map&item={wanted}")
    page.get_by_text(f"Marked: {title}").wait_for()
    page.locator("canvas").hover()
    wait_for(page, lambda: title in page.locator(".tip").inner_text())


def test_everything_is_done_with_the_keyboard(page: Any, url: str) -> None:
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
    press(page, "Tab", until=titles(page)[0])
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


def test_address_is_a_link_and_back_goes_back(page: Any, url: str) -> None:
    page.goto("/?user=u3&k=10&exclude=i008")
    wait_for(page, lambda: titles(page) == answer(url, user_id="u3", k=10, exclude=["i008"]))
    first = titles(page)[0]
    retrieved(page).get_by_role("link", name=first, exact=True).click()
    page.get_by_role("heading", name=first).wait_for()
    page.go_back()
    wait_for(page, lambda: titles(page)[:1] == [first] and "view" not in query(page))


@pytest.mark.parametrize("path", ["/", "/?user=u3&compare=1", "/?view=item&item=i008&compare=1", "/?view=map"])
def test_nothing_is_wider_than_a_phone(browser: Any, url: str, path: str) -> None:
    with new_page(browser, url, PHONE) as page:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.locator("main a, main button, main canvas").count() > 0


def test_unknown_user_and_item_are_told_of(browser: Any, url: str) -> None:
    with new_page(browser, url, refused=404) as page:
        page.goto("/?user=stranger")
        page.get_by_role("alert").filter(has_text="user 'stranger' is not in this bundle").wait_for()
        page.goto("/?view=item&item=nope")
        page.get_by_role("alert").filter(has_text="item 'nope' is not in this bundle").wait_for()


def test_bundle_without_neighbours_and_map_says_so(browser: Any, tmp_path: Path) -> None:
    shutil.unpack_archive(GOLDEN, tmp_path / "bundle")
    with (
        running_server(tmp_path / "bundle", tmp_path / "log") as (url, _),
        new_page(browser, url) as page,
    ):
        page.goto("/?view=item&item=i008")
        for name in ("By session", "By title"):
            page.get_by_role("region", name=name).get_by_text("Not in this bundle.").wait_for()
        page.get_by_role("region", name="By embedding").locator(".items").wait_for()
        page.get_by_role("link", name="Map").click()
        page.get_by_text("Not in this bundle.").wait_for()


def test_key_is_asked_for_until_it_is_known(browser: Any, bundle_path: Path, tmp_path: Path) -> None:
    keys = [{"name": "people", "sha256": hashlib.sha256(b"sesame").hexdigest()}]
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    with (
        running_server(bundle_path, tmp_path / "log", keys=str(tmp_path / "keys.yaml")) as (url, _),
        new_page(browser, url, refused=401) as page,
    ):
        page.goto("/?user=u3")
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
