"""What several test files share."""

import io
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pipeline.storage import Location, locate

# How long an example takes says more about a busy machine than about the code.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


class Terminal(io.StringIO):
    """Keeps what is written to it, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Called in a test, puts a terminal in the place of stderr (pytest sets its own one as a test begins)."""

    def put() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return put


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the clone; tests that need it are skipped, visibly, when it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}")
    return path


@pytest.fixture(scope="session")
def on_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a remote Beam worker installs for `--setup_file`, without what that depends on."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.stager import Stager

    staged, target = tmp_path_factory.mktemp("staged"), tmp_path_factory.mktemp("site")
    options = PipelineOptions(["--setup_file", str(ROOT / "setup.py")])
    Stager.create_job_resources(options, str(staged), log_submission_env_dependencies=False)
    (sdist,) = staged.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(sdist)], check=True)
    return target


@pytest.fixture(scope="session")
def serving_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests/serving_fixture.py keeps its logs, artefacts and bundle; nobody changes them."""
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="session")
def bundle_path(serving_dir: Path) -> Path:
    """The bundle of tests/serving_fixture.py."""
    from serving_fixture import make_bundle  # loads TensorFlow, which other tests do without

    return make_bundle(serving_dir).path


@pytest.fixture(scope="session")
def other_bundle_path(serving_dir: Path, bundle_path: Path) -> Path:
    """A bundle without the items that were never trained on, published twice."""
    from serving_fixture import make_bundle

    make_bundle(serving_dir, "other", catalogue="trained")
    return make_bundle(serving_dir, "other", catalogue="trained").path


@pytest.fixture(scope="session")
def server_url(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server over that bundle, with a maximal k of 200."""
    from serving_fixture import running_server

    with running_server(bundle_path, tmp_path_factory.mktemp("server") / "log", max_k=200) as (url, _):
        yield url


@pytest.fixture(scope="session")
def explorer_url(bundle_path: Path, other_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server that compares the bundle with the other one."""
    from serving_fixture import running_server

    log = tmp_path_factory.mktemp("explorer") / "log"
    with running_server(bundle_path, log, compare=str(other_bundle_path)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium. Not for longer than a module: its driver's event loop keeps all others from running."""
    from browser_fixture import running_browser

    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Any, explorer_url: str) -> Iterator[Any]:
    """An empty page of that browser, for that server."""
    from browser_fixture import new_page

    with new_page(browser, explorer_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running S3 server."""
    from s3_fixture import running_s3

    with running_s3(tmp_path_factory.mktemp("s3") / "log") as url:
        yield url


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; the environment leads there, and the cache is this test's own."""
    from s3_fixture import environment

    for name, value in environment(s3_url, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    url = f"s3://{uuid.uuid4().hex}"
    path = locate(url)
    path.fs.mkdir(path.path)
    return url


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """An empty folder in each kind of place where artefacts may lie."""
    if request.param == "s3":
        return locate(request.getfixturevalue("bucket")) / "a folder"
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    if request.param == "memory":
        return locate(f"memory://{uuid.uuid4().hex}")
    path = tmp_path / "place"
    path.mkdir()
    return path
