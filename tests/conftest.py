"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about a busy machine than about the code.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the clone; tests that need it are skipped, visibly, when it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}")
    return path


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
def server_url(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server over that bundle, with a maximal k of 200."""
    from serving_fixture import running_server

    with running_server(bundle_path, tmp_path_factory.mktemp("server") / "log", max_k=200) as url:
        yield url
