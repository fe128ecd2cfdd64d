"""A headless Chromium that opens the explorer page and minds what it complains of, and how tests read that page."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOUD = ("error", "warning")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@contextmanager
def running_browser() -> Iterator[Any]:
    """Chromium as the system has it; the test is skipped, visibly, where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright. Cure: make install")
    if CHROMIUM is None:
        pytest.skip("no chromium. Cure: apt-get install chromium")
    with driver.sync_playwright() as playwright:
        # Without its sandbox, which needs rights that a container's root does not have.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Any, url: str, viewport: dict[str, int] | None = None, refused: int = 0) -> Iterator[Any]:
    """An empty page for `url`. At the end: it asked nobody else, and had nothing to say on its console.

    refused: the status of answers that are expected, which a browser reports as errors.
    """
    context = browser.new_context(base_url=url, viewport=viewport or WIDE)
    context.set_default_timeout(10_000)
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type in LOUD else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    unexpected = [text for text in complaints if not (refused and f"status of {refused}" in text)]
    assert not unexpected, unexpected
    assert {each for each in asked if not each.startswith(url)} == set()


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
