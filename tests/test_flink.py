"""The whole of `prepare` on Apache Flink: every artefact is, byte for byte, the one of the local runner.

`make test-flink` fetches Flink and runs these; the default run leaves them out.
"""

import json
from pathlib import Path

import pytest
from flink_fixture import JOB_SERVER, cluster, twotower, worker_pool

from pipeline.prepare import JOBS

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1200)]

SETTINGS = """
workdir: {workdir}
source: {{format: demo, partition: day, demo: {{users: 300, items: 300, events: 6000, days: 3}}}}
prepare: {{partitions: 3, session: {{same_category_field: category, half_life_days: 2}}}}
"""
ON_FLINK = ["--runner=FlinkRunner", f"--flink_job_server_jar={JOB_SERVER}", "--parallelism=2"]
EMBEDDED = [*ON_FLINK, "--flink_master=[local]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not JOB_SERVER.is_file():
        pytest.fail(f"no Flink at {JOB_SERVER}. Cure: make test-flink, which fetches it", pytrace=False)
    return tmp_path_factory.mktemp("flink")


def imported(workdir: Path) -> str:
    """The settings file of a new `workdir` that holds the demo logs."""
    settings = workdir.with_suffix(".yaml")
    settings.write_text(SETTINGS.format(workdir=workdir), encoding="utf-8")
    done = twotower("import", "-c", str(settings))
    assert done.returncode == 0, done.stderr
    return str(settings)


def prepared(workdir: Path, beam_options: list[str]) -> dict[str, dict]:
    """Run `prepare` in a new workdir, and give what each artefact is: its spec, its counts, its files' checksums."""
    done = twotower("prepare", "-c", imported(workdir), "--", *beam_options)
    assert done.returncode == 0, done.stderr
    root = workdir / "prepared"
    paths = [path for path in root.rglob("MANIFEST.json") if not path.parent.name.startswith("run=")]
    manifests = {path.parent.relative_to(root): json.loads(path.read_text()) for path in paths}
    return {str(name): {key: m[key] for key in ("spec", "counts", "files")} for name, m in manifests.items()}


@pytest.fixture(scope="module")
def here(folder) -> dict[str, dict]:
    return prepared(folder / "here", [])


@pytest.fixture(scope="module")
def embedded(folder) -> dict[str, dict]:
    return prepared(folder / "embedded", EMBEDDED)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_makes_the_same_artefacts_on_flink(job, here, embedded):
    expected = {name: artifact for name, artifact in here.items() if Path(name).parts[0] == job}
    assert expected
    assert {name: artifact for name, artifact in embedded.items() if Path(name).parts[0] == job} == expected


def test_a_cluster_with_workers_of_its_own_makes_the_same(folder, here, on_worker):
    java, python = folder / "java", folder / "python"
    java.mkdir()
    python.mkdir()
    with cluster(java) as address, worker_pool(python, on_worker) as workers:
        remote = [f"--flink_master={address}", "--environment_type=EXTERNAL", f"--environment_config={workers}"]
        assert prepared(folder / "cluster", [*ON_FLINK, *remote]) == here


def test_an_error_in_a_worker_is_told_in_one_line(folder):
    workdir = folder / "damaged"
    settings = imported(workdir)
    for part in workdir.rglob("date=*/part-*.parquet"):
        with part.open("r+b") as stream:
            stream.seek(4)
            stream.write(bytes(64))  # the data; the footer, which is read before the job, stays whole
    done = twotower("prepare", "-c", settings, "--", *EMBEDDED)
    assert done.returncode == 1
    assert "error: the Beam job day-events-" in done.stderr.splitlines()[-1]
    assert " failed on FlinkRunner: OSError: " in done.stderr.splitlines()[-1]
