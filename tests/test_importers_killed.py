"""An import killed (-9) at each step it takes: the last good tables stay, a re-run completes, nothing is left over."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importer_fixtures import events_of, import_config

from pipeline.storage import subfolders
from pipeline.tables import Tables

ROOT = Path(__file__).resolve().parent.parent
HEADER = "user_id,item_id,timestamp\n"
KILLED_AT = """
import importlib, json, os, signal, sys
from pipeline.config import Config
from pipeline.importers import import_source

config, step, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
module, name = step.split(".")
module, calls = importlib.import_module(module), 0
function = getattr(module, name)

def killing(*args, **kwargs):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)

setattr(module, name, killing)
import_source(Config.model_validate(config))
"""


def write_day(folder: Path, name: str, *times: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(HEADER + "".join(f"u,a,{time}\n" for time in times))


def times_of(tables: Tables) -> list[int]:
    return [event[2] for event in events_of(tables)]


@pytest.mark.parametrize(
    ("step", "count", "published"),
    [
        ("os.replace", 1, False),  # the events of the changed file
        ("os.replace", 2, False),  # the events of the new file
        ("shutil.copyfile", 2, False),  # the catalogue into the tables
        ("os.replace", 3, False),  # the tables
        ("shutil.rmtree", 1, True),  # what is no longer needed
        ("shutil.rmtree", 2, True),
    ],
)
def test_a_killed_import(tmp_path: Path, step: str, count: int, published: bool) -> None:
    raw, work = tmp_path / "raw", tmp_path / "work"
    source = {"format": "table", "partition": "day", "path": str(raw), "table": {"events": "day-*.csv"}}
    config: dict[str, Any] = {"workdir": str(work), "source": source}
    for time in (1, 2):  # twice: the tables have a past to be removed
        write_day(raw, "day-1.csv", time)
        before = import_config(config)
    write_day(raw, "day-1.csv", 3)
    write_day(raw, "day-2.csv", 4)
    command = [sys.executable, "-c", KILLED_AT, json.dumps(config), step, str(count)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert times_of(Tables.read(before.artifact.path)) == ([3, 4] if published else [2])
    assert times_of(before) == [2]
    after = import_config(config)
    assert times_of(after) == [3, 4]
    write_day(raw, "day-2.csv", 5)
    last = import_config(config)
    named = {file.artifact for file in (*after.event_files, *last.event_files)}
    assert {folder.name for folder in subfolders(work / "events", "")} == named
