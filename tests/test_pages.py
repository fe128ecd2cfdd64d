"""The files of the explorer page over HTTP: what they allow, how they are kept, and how they are switched off."""

import re
from pathlib import Path

import httpx
import pytest
from serving_fixture import running_server

from serving.pages import FOLDER

FILES = ["/", *(f"/explorer/{path.name}" for path in sorted(FOLDER.iterdir()) if path.name != "index.html")]


@pytest.mark.parametrize("path", FILES)
def test_file_is_sent_once_and_then_confirmed(server_url: str, path: str) -> None:
    first = httpx.get(server_url + path)
    assert first.status_code == 200
    again = httpx.get(server_url + path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = httpx.get(server_url + path, headers={"If-None-Match": '"other"'})
    assert (changed.status_code, changed.content) == (200, first.content)


def test_page_that_has_not_changed_is_no_failure_of_the_server(server_url: str) -> None:
    etag = httpx.get(server_url).headers["etag"]
    httpx.get(server_url, headers={"If-None-Match": etag})
    assert 'twotower_requests_total{route="other",status="304"}' in httpx.get(f"{server_url}/metrics").text
    assert 'status="500"' not in httpx.get(f"{server_url}/metrics").text


def test_page_may_load_and_reach_nothing_but_this_server(server_url: str) -> None:
    policy = dict(part.split(" ", 1) for part in httpx.get(server_url).headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_files_name_no_other_host_and_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [url for url in re.findall(r"https?://[^\s\"')]+", text) if url != "http://www.w3.org/2000/svg"] == []
    assert len(text.splitlines()) <= 300


def test_address_of_the_page_is_printed(bundle_path: Path, other_bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log", compare=str(other_bundle_path)) as (url, process):
        assert process.stdout is not None
        assert process.stdout.readline() == f"Explore it in a browser at {url}/, beside {other_bundle_path}\n"


def test_explorer_that_is_switched_off_lists_nothing(bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log", explorer=False) as (url, _):
        for path in ("/", "/explorer/main.js", "/v1/users", "/v1/items", "/v1/map", "/v1/fields"):
            assert httpx.get(url + path).status_code == 404
        assert httpx.get(f"{url}/v1/items/i008").status_code == 200
        assert not {"/v1/users", "/v1/map"} & httpx.get(f"{url}/openapi.json").json()["paths"].keys()
