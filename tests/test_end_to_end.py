"""The whole pipeline by its command line, every stage in a process of its own, on a tiny demo; then HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from importer_fixtures import events_of

from pipeline.artifacts import MANIFEST
from pipeline.tables import Tables

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "name": "tiny",
    "source": {"format": "demo", "demo": {"users": 120, "items": 100, "events": 2500, "days": 20}},
    "prepare": {"partitions": 2, "titles": {"neighbours": 10}, "session": {"same_category_field": "category"}},
    "tower": {"embedding_dim": 8, "hidden": [16, 8], "history_length": 8},
    "train": {"batch_size": 256, "max_epochs": 2},
    "tasks": {
        "feature_masking": {"weight": 0.1, "batch_size": 64},
        "feature_level": {"weight": 0.1, "batch_size": 64, "negatives": 8},
        "semantic_level": {"weight": 0.1, "batch_size": 64, "negatives": 8, "top_k": 5},
        "session_level": {"weight": 0.1, "batch_size": 64, "negatives": 8},
    },
    "evaluate": {"at": [5, 20], "recent_days": [5], "bootstrap": 50},
    "export": {"recall_at": 20},
}
ARTEFACTS = [
    "tables",
    "prepared/day_events",
    "prepared/window_events",
    "prepared/catalogue_counts",
    "prepared/joint_counts",
    "prepared/vocabularies",
    "prepared/user_sequences",
    "prepared/mutual_information",
    "prepared/session_cooccurrence",
    "prepared/title_neighbours",
    "prepared/report",
    "runs/tiny/model",
    "runs/tiny/evaluation",
    "bundles/tiny",
]
pytestmark = pytest.mark.timeout(600)


class Pipeline:
    """Runs `twotower` with the tiny config; `workdir` holds its artefacts."""

    def __init__(self, folder: Path) -> None:
        self.workdir, self.config = folder / "work", folder / "tiny.yaml"
        self.config.write_text(yaml.safe_dump({**TINY, "workdir": str(self.workdir)}))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli", *arguments, "--config", str(self.config)]

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == code, process.stderr[-4000:]
        return process

    def ask(self, *arguments: str) -> dict:
        return json.loads(self("query", "--json", *arguments).stdout)

    def runs(self) -> dict[str, str]:
        """The current run of every artefact."""
        return {name: json.loads((self.workdir / name / MANIFEST).read_text())["run"] for name in ARTEFACTS}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    """The pipeline after every stage has run, each by a command of its own."""
    pipeline = Pipeline(tmp_path_factory.mktemp("end_to_end"))
    for stage in ("import", "prepare", "train", "evaluate", "export"):
        pipeline(stage)
    return pipeline


@pytest.fixture(scope="module")
def history(pipeline) -> dict[str, list[str]]:
    """Each user's items as the import wrote them, oldest first."""
    seen: dict[str, list[tuple[int, str]]] = {}
    for user, item, time in events_of(Tables.read(pipeline.workdir / "tables")):
        seen.setdefault(user, []).append((time, item))
    return {user: [item for _, item in sorted(events)] for user, events in seen.items()}


@pytest.fixture(scope="module")
def server(pipeline) -> Iterator[httpx.Client]:
    """`twotower serve` on a free port."""
    command = pipeline.command("serve", "--port", "0")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = re.search(r"http://[\d.]+:\d+", line)
            assert url, line
            with httpx.Client(base_url=url[0], timeout=10) as client:
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def test_every_stage_leaves_its_artefact(pipeline):
    assert all(run.startswith("run=") for run in pipeline.runs().values())


def test_a_second_run_skips_everything_and_prints_the_report(pipeline):
    before = pipeline.runs()
    process = pipeline("run")
    assert pipeline.runs() == before
    assert process.stderr.count("unchanged since") == len(ARTEFACTS)
    assert "popular" in process.stdout.lower()


def test_query_for_a_user_gives_new_items_in_order(pipeline, history):
    user = max(history, key=lambda u: len(history[u]))
    items = pipeline.ask("--user", user, "-k", "7")["items"]
    assert len({item["item_id"] for item in items} - set(history[user])) == 7
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    assert all(item["title"] for item in items)


def test_query_prints_titles_for_people(pipeline, history):
    user = next(iter(history))
    answer = pipeline.ask("--user", user, "-k", "3")
    printed = " ".join(pipeline("query", "--user", user, "-k", "3").stdout.split())
    assert all(item["item_id"] in printed for item in answer["items"])


def test_query_for_an_item_does_not_give_the_item(pipeline, history):
    item = next(iter(history.values()))[0]
    found = [other["item_id"] for other in pipeline.ask("--item", item, "-k", "5")["items"]]
    assert len(found) == 5
    assert item not in found


def test_a_history_alone_is_enough(pipeline, history):
    seen = next(iter(history.values()))[:3]
    found = [item["item_id"] for item in pipeline.ask("--history", ",".join(seen), "-k", "5")["items"]]
    assert len(found) == 5
    assert not set(found) & set(seen)


def test_an_unknown_user_is_a_request_error(pipeline):
    last = pipeline("query", "--user", "nobody", code=5).stderr.splitlines()[-1]
    assert last.startswith("error: user 'nobody' is not in this bundle")


def test_http_answers_as_the_command_does(pipeline, server, history):
    user = next(iter(history))
    expected = [item["item_id"] for item in pipeline.ask("--user", user, "-k", "7")["items"]]
    response = server.post("/v1/recommend", json={"user_id": user, "k": 7})
    assert response.status_code == 200
    assert [item["item_id"] for item in response.json()["items"]] == expected


def test_http_serves_the_current_bundle(pipeline, server):
    ready = server.get("/v1/ready").json()
    assert ready == {"status": "ready", "bundle": pipeline.runs()["bundles/tiny"]}


def test_http_finds_similar_items_and_looks_items_up(server, history):
    item = next(iter(history.values()))[0]
    assert server.get(f"/v1/items/{item}").json()["item_id"] == item
    assert len(server.get(f"/v1/items/{item}/similar", params={"k": 5}).json()["items"]) == 5


def test_http_says_404_for_an_unknown_user(server):
    assert server.post("/v1/recommend", json={"user_id": "nobody"}).status_code == 404
