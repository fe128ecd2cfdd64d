"""setup.py: what Beam builds of it for `--setup_file` installs all of our code on a worker."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PACKAGES = ("pipeline", "towers", "ssl_tasks", "serving", "beam_jobs")


def files(root: Path) -> set[str]:
    """The files of our packages under `root`, as relative names."""
    found = (path for package in PACKAGES for path in (root / package).rglob("*"))
    return {path.relative_to(root).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"}


def test_every_file_of_every_package_is_installed(on_worker):
    """Cure: name a new package, or the data of one, in setup.py"""
    assert files(on_worker) == files(ROOT)


def test_a_worker_imports_it_from_any_folder(on_worker, tmp_path):
    jobs = [f"beam_jobs.{path.stem}" for path in (ROOT / "beam_jobs").glob("*.py")]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    assert importlib.import_module(name).__file__.startswith(sys.argv[1]), name\n"
    )
    command = [sys.executable, "-c", code, str(on_worker), *PACKAGES, *jobs]
    environment = {**os.environ, "PYTHONPATH": str(on_worker)}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
