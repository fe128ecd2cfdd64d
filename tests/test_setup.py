"""setup.py: what Beam builds of it for `--setup_file` installs all of our code on a worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import WORKFLOW_TARBALL_FILE, Stager
from conftest import ROOT

PACKAGES = ("pipeline", "towers", "ssl_tasks", "serving", "beam_jobs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a worker installs, without what it depends on."""
    staged = tmp_path_factory.mktemp("staged")
    options = PipelineOptions(["--setup_file", str(ROOT / "setup.py")])
    resources = Stager.create_job_resources(options, str(staged), log_submission_env_dependencies=False)
    assert any(WORKFLOW_TARBALL_FILE in str(resource) for resource in resources)
    (sdist,) = staged.glob("*.tar.gz")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(sdist)], check=True)
    return target


def files(root: Path) -> set[str]:
    """The files of our packages under `root`, as relative names."""
    found = (path for package in PACKAGES for path in (root / package).rglob("*"))
    return {path.relative_to(root).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"}


def test_every_file_of_every_package_is_installed(installed):
    """Cure: name a new package, or the data of one, in setup.py"""
    assert files(installed) == files(ROOT)


def test_a_worker_imports_it_from_any_folder(installed, tmp_path):
    jobs = [f"beam_jobs.{path.stem}" for path in (ROOT / "beam_jobs").glob("*.py")]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    assert importlib.import_module(name).__file__.startswith(sys.argv[1]), name\n"
    )
    command = [sys.executable, "-c", code, str(installed), *PACKAGES, *jobs]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
