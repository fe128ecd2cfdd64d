"""A command that trains starts itself anew with the malloc it needs, once; others do not."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from pipeline.malloc import VARIABLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has glibc's malloc")

PAGES, ARENA = "glibc.malloc.hugetlb", "glibc.malloc.arena_max"


def starts(folder, command: str, tunables: str | None) -> list[str]:
    """The tunables at each start of a command that fails for want of a config."""
    (folder / "sitecustomize.py").write_text(f"import os\nprint(os.environ.get('{VARIABLE}'))", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"PYTHONPATH": str(folder)} | ({} if tunables is None else {VARIABLE: tunables})
    process = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", command, "-c", "none.yaml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.count("none.yaml") == 1
    return process.stdout.splitlines()


@pytest.mark.parametrize(
    ("command", "tunables", "expected"),
    [
        ("train", None, ["None", f"{PAGES}=1:{ARENA}=1"]),
        ("run", f"{ARENA}=2", [f"{ARENA}=2", f"{ARENA}=2:{PAGES}=1"]),
        ("tune", f"{PAGES}=0", [f"{PAGES}=0", f"{PAGES}=0:{ARENA}=1"]),
        ("train", f"{PAGES}=0:{ARENA}=8", [f"{PAGES}=0:{ARENA}=8"]),
        ("evaluate", None, ["None"]),
    ],
)
def test_a_command_that_trains_starts_anew_once(tmp_path, command, tunables, expected):
    assert starts(tmp_path, command, tunables) == expected
