"""The line a stage ends with."""

from pathlib import Path

import pytest

from pipeline import stages
from pipeline.artifacts import Spec, create, open_artifact
from pipeline.config import Config


def test_the_line_tells_what_was_found_and_adds_up_what_has_many_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with create(tmp_path, Spec("tables", 1)) as draft:
        draft.counts |= {"events": 12345, "users": 0, "rejected": {"missing_item_id": 2}}
        draft.counts["records"] = {f"day-{day}.csv": day for day in range(28)}
    monkeypatch.setitem(stages.STAGES, "import", lambda config: [open_artifact(tmp_path, "tables", 1)])
    stages.run("import", Config())
    line = capsys.readouterr().err.splitlines()[0]
    assert line.endswith(", events 12,345, records 378, rejected missing item id 2")
