"""Keys, rates, limits, overload and shutdown of a real server process."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from serving_fixture import running_server

from pipeline.errors import ConfigError
from serving.client import RetrievalClient
from serving.errors import RateLimitError, UnauthorizedError
from serving.protection import Gate, Key, read_keys
from serving.shared_numbers import SharedNumbers


def key(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more}


@pytest.fixture(scope="module")
def guarded(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that asks for keys, reads no long bodies and waits for no slow ones; and its log."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = [key("shop"), key("slow", requests_per_second=0.01, burst=3), key("operator", admin=True)]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    settings = {"keys": str(folder / "keys.yaml"), "max_body_bytes": 1000, "read_seconds": 0.5, "access_log": True}
    with running_server(bundle_path, folder / "log", **settings) as (url, _):
        yield url, folder / "log"


def ask(url: str, name: str | None, body: Any = None) -> httpx.Response:
    headers = {} if name is None else {"Authorization": f"Bearer {name}"}
    return httpx.post(f"{url}/v1/recommend", json=body or {"user_id": "u3", "k": 1}, headers=headers)


def test_known_key_is_let_in(guarded: tuple[str, Path]) -> None:
    assert ask(guarded[0], "shop").status_code == 200
    with RetrievalClient(guarded[0], key="shop") as client:
        assert client.item("i001")["item_id"] == "i001"


@pytest.mark.parametrize("name", [None, "stranger", "SHOP", "shop shop"])
def test_unknown_key_is_refused(guarded: tuple[str, Path], name: str | None) -> None:
    response = ask(guarded[0], name)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


def test_health_and_documents_need_no_key(guarded: tuple[str, Path]) -> None:
    for path in ("/v1/health", "/v1/ready", "/openapi.json", "/docs"):
        assert httpx.get(guarded[0] + path).status_code == 200


@pytest.mark.parametrize(("name", "status"), [("shop", 403), ("operator", 200)])
def test_administration_needs_an_administrators_key(guarded: tuple[str, Path], name: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {name}"}
    assert httpx.get(f"{guarded[0]}/metrics", headers=headers).status_code == status
    assert httpx.post(f"{guarded[0]}/v1/admin/reload", headers=headers).status_code == status


def test_rate_of_a_key_is_limited(guarded: tuple[str, Path]) -> None:
    statuses = [ask(guarded[0], "slow").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert int(ask(guarded[0], "slow").headers["retry-after"]) > 0


def test_openapi_asks_for_the_key(guarded: tuple[str, Path]) -> None:
    document = httpx.get(f"{guarded[0]}/openapi.json").json()
    assert document["paths"]["/v1/recommend"]["post"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/v1/health"]["get"]


def test_large_body_is_refused_whether_its_length_is_told_or_not(guarded: tuple[str, Path]) -> None:
    headers = {"Authorization": "Bearer shop", "Content-Type": "application/json"}
    told = httpx.post(f"{guarded[0]}/v1/recommend", content=b" " * 1001, headers=headers)
    chunked = httpx.post(f"{guarded[0]}/v1/recommend", content=iter([b" " * 600] * 2), headers=headers)
    assert (told.status_code, chunked.status_code) == (413, 413)


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\n"])
def test_slow_header_is_cut_off(guarded: tuple[str, Path], sent: bytes) -> None:
    with connected(guarded[0]) as slow:
        slow.sendall(sent)
        assert slow.recv(1000) == b""


def test_slow_body_is_refused(guarded: tuple[str, Path]) -> None:
    with connected(guarded[0]) as slow:
        head = "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop\r\nContent-Length: 9\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_large_header_is_refused(guarded: tuple[str, Path]) -> None:
    with connected(guarded[0]) as large:
        large.sendall(b"GET /v1/health HTTP/1.1\r\nX: " + b"x" * 70_000)
        assert large.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_odd_bytes_in_a_path_do_no_harm(guarded: tuple[str, Path]) -> None:
    for path in (b"/v1/items/%ff%fe", "/v1/items/\xe9".encode("latin-1"), b"/v1/items/%", b"/v1/items/%00"):
        with connected(guarded[0]) as odd:
            odd.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop\r\n\r\n")
            assert odd.recv(1000).split()[1] in (b"400", b"404")


def test_access_log_holds_no_personal_data(guarded: tuple[str, Path]) -> None:
    url, log = guarded
    ask(url, "shop", {"user_id": "u31", "k": 1})
    time.sleep(0.4)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines[-1].keys() == {"time", "route", "status", "ms", "bytes", "key"}
    assert (lines[-1]["route"], lines[-1]["status"], lines[-1]["key"]) == ("recommend", 200, "shop")
    assert "u31" not in log.read_text()


def test_overload_is_refused_at_once_with_the_time_to_come_back(bundle_path: Path, tmp_path: Path) -> None:
    def statuses(url: str, client: httpx.Client, into: list[httpx.Response]) -> None:
        body = {"requests": [{"user_id": f"u{i}", "k": 200} for i in range(1, 31)]}
        into += [client.post(f"{url}/v1/recommend/batch", json=body) for _ in range(10)]

    answers: list[httpx.Response] = []
    with running_server(bundle_path, tmp_path / "log", max_queue=32, max_batch=2) as (url, _):
        clients = [httpx.Client() for _ in range(4)]
        threads = [threading.Thread(target=statuses, args=(url, client, answers)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        assert httpx.get(f"{url}/v1/ready").status_code == 200  # it is over
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


def test_worker_that_dies_is_replaced(bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log") as (url, process):
        kill_worker(url, process.pid)


def test_worker_that_dies_is_replaced_by_one_with_the_same_keys(bundle_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"keys": [key("shop")]}))
    with running_server(bundle_path, tmp_path / "log", keys=str(file)) as (url, process):
        file.write_text(yaml.safe_dump({"keys": [key("first"), key("shop"), key("last")]}))
        kill_worker(url, process.pid)
        assert [ask(url, name).status_code for name in ("first", "shop", "last")] == [401, 200, 401]


def kill_worker(url: str, parent: int) -> None:
    """Kill the only worker, and wait for another to answer."""
    (worker,) = workers(parent)
    time.sleep(1.0)
    os.kill(worker, signal.SIGKILL)
    until = time.monotonic() + 30
    while not answers(url):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert workers(parent) != [worker]


def workers(parent: int) -> list[int]:
    """Its children that serve: they have sockets, unlike the one that multiprocessing tracks resources with."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health").is_success
    except httpx.HTTPError:
        return False


def test_requests_in_flight_are_finished_before_the_end(bundle_path: Path, tmp_path: Path) -> None:
    with running_server(bundle_path, tmp_path / "log") as (url, process):
        body = b'{"user_id":"u3","k":5}'
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        with connected(url) as late:
            late.sendall(head.encode() + b"\r\n\r\n" + body[:5])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            late.sendall(body[5:])
            assert late.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert process.wait(timeout=20) == 0
    assert not answers(url)


# ---- without a server


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("keys: []", "keys: List should have at least 1 item"),
        ("keys: [{name: a}]", "keys.0.sha256: Field required"),
        ("keys: [{name: a, sha256: abc}]", "keys.0.sha256: String should match"),
        ("keys: {", "while parsing a flow"),
    ],
)
def test_bad_file_of_keys_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "keys.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_keys(str(tmp_path / "keys.yaml"))


def test_keys_must_differ(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key("a"), {**key("a"), "name": "b"}]}))
    with pytest.raises(ConfigError, match="two keys have the same sha256"):
        read_keys(str(tmp_path / "keys.yaml"))


def test_bucket_refills_with_time_and_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("serving.protection.time.monotonic", lambda: now)
    file = SharedNumbers.make(1, 2)
    keys = [Key(**key("a", requests_per_second=2, burst=4))]
    gates = [Gate(keys, SharedNumbers(file, 1, 2)) for _ in range(2)]  # as of two workers
    caller = gates[0].enter(b"Bearer a")
    for gate in (*gates, *gates):
        gate.take(caller)
    with pytest.raises(RateLimitError) as refused:
        gates[0].take(caller)
    assert refused.value.retry_after == 1
    now += 1.0
    gates[1].take(caller, 2)
    with pytest.raises(RateLimitError):
        gates[0].take(caller)
    with pytest.raises(RateLimitError, match="the key's burst is 4"):
        gates[0].take(caller, 5)
    file.unlink()


def test_batch_that_no_pause_makes_room_for_is_not_told_to_come_again(tmp_path: Path) -> None:
    file = SharedNumbers.make(1, 2)
    gate = Gate([Key(**key("shop", requests_per_second=1, burst=4))], SharedNumbers(file, 1, 2))
    caller = gate.enter(b"Bearer shop")
    gate.take(caller)
    with pytest.raises(RateLimitError, match="the request counts as 5, but the key's burst is 4") as refused:
        gate.take(caller, 4, before=1)
    assert refused.value.retry_after is None
    gate.take(caller, 3, before=1)
    file.unlink()


def test_scheme_of_the_key_is_checked_whatever_its_case(tmp_path: Path) -> None:
    file = SharedNumbers.make(1, 2)
    gate = Gate([Key(**key("a"))], SharedNumbers(file, 1, 2))
    assert gate.enter(b"bearer a") == gate.enter(b"BEARER  a")
    with pytest.raises(UnauthorizedError):
        gate.enter(b"Basic a")
    file.unlink()
