"""The explorer page in a real browser, on a real server: an item, its neighbours, and the map."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser_fixture import new_page, query, search, titles, wait_for
from serving_fixture import near, running_server

GOLDEN = Path(__file__).parent / "bundles" / "v2.zip"


@pytest.mark.parametrize(("kind", "name"), [("session", "By session"), ("title", "By title")])
def test_listed_neighbours_are_those_of_prepare(page: Any, kind: str, name: str) -> None:
    page.goto("/?view=item&item=i008")
    section = page.get_by_role("region", name=name)
    section.locator(".items").wait_for()
    assert titles(section) == [f"Title {i}" for i in near(8)[kind]]


def test_neighbours_by_embedding_of_both_bundles(page: Any, explorer_url: str) -> None:
    page.goto("/?view=item&item=i008&compare=1")
    for name, bundle in (("By embedding", "served"), ("By embedding, compared bundle", "compare")):
        section = page.get_by_role("region", name=name, exact=True)
        section.locator(".items").wait_for()
        found = httpx.get(f"{explorer_url}/v1/items/i008/similar", params={"k": 15, "bundle": bundle}).json()["items"]
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


def test_item_is_found_on_the_map_and_opened_by_a_click(page: Any, explorer_url: str) -> None:
    wanted, title = on_map(explorer_url)
    page.goto("/?view=map")
    search(page, "Find an item on the map", title, title)
    page.get_by_text(f"Marked: {title}").wait_for()
    page.locator("canvas").click()  # in the middle, where the item now is
    page.get_by_role("heading", name=title).wait_for()
    assert query(page) == {"view": ["item"], "item": [wanted]}


def test_pointing_at_the_map_tells_the_title(page: Any, explorer_url: str) -> None:
    wanted, title = on_map(explorer_url)
    page.goto(f"/?view=map&item={wanted}")
    page.get_by_text(f"Marked: {title}").wait_for()
    page.locator("canvas").hover()
    wait_for(page, lambda: title in page.locator(".tip").inner_text())


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
