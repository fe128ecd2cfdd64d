"""benchmarks/: the logs are what they say, the peers do the work of the Beam jobs, the digests tell results apart."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import beam_jobs, click_logs, job_results, measure, peers
from benchmarks.click_logs import Size
from benchmarks.workbench import agree
from pipeline.config_file import load_config
from pipeline.prepare import JOBS, prepare

SMALL = Size(clicks=3_000, users=150, items=100, catalogue=200, days=3)


def written(folder: Path, seed: int, size: Size = SMALL) -> dict[str, pa.Table]:
    click_logs.write(folder, size, seed)
    return {path.name: pq.read_table(path) for path in sorted(folder.iterdir())}


# ---- the logs


def test_a_seed_gives_one_log(tmp_path):
    first, again, other = (written(tmp_path / str(i), seed) for i, seed in enumerate((1, 1, 2)))
    assert first.keys() == {"clicks.parquet", "items.parquet"}
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_log_has_its_size_sessions_ties_and_clicks_outside_the_catalogue(tmp_path):
    size = Size(clicks=50_000, users=2_000, items=1_000, catalogue=3_000, days=4)
    tables = written(tmp_path, 1, size)
    clicks, items = tables["clicks.parquet"], tables["items.parquet"]
    assert len(clicks) == size.clicks
    assert (len(items), pc.count_distinct(items["item_id"]).as_py()) == (size.catalogue, size.catalogue)
    unlisted = pc.invert(pc.is_in(clicks["item_id"], items["item_id"].combine_chunks()))
    assert 0 < pc.mean(unlisted).as_py() < 0.05
    by_user = clicks.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    same = pc.equal(by_user["user_id"][1:], by_user["user_id"][:-1]).to_numpy()
    gaps = np.diff(by_user["timestamp"].to_numpy())
    assert 4 < size.clicks / (1 + np.count_nonzero(~same | (gaps > 3600))) < 6
    assert 0.001 < np.mean(same & (gaps == 0)) < 0.01
    seconds = clicks["timestamp"].to_numpy() - click_logs.START
    assert seconds.min() >= 0
    assert seconds.max() < size.days * click_logs.DAY
    assert (np.diff(seconds) >= 0).all()


def test_a_log_can_be_written_by_day(tmp_path):
    whole = written(tmp_path / "whole", 1)["clicks.parquet"]
    click_logs.write(tmp_path / "days", SMALL, 1, by_day=True)
    days = sorted((tmp_path / "days").glob("clicks-*.parquet"))
    assert [path.stem for path in days] == ["clicks-2024-01-01", "clicks-2024-01-02", "clicks-2024-01-03"]
    assert pa.concat_tables([pq.read_table(path) for path in days]) == whole


# ---- the peers


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of a small benchmark in which every rule bites, and our artefacts beside them."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click_logs, "TIE_SHARE", 0.2)
        patch.setattr(click_logs, "UNLISTED_SHARE", 0.2)
        click_logs.prepare_inputs(folder, SMALL, seed=1)
    session = ["prepare.session.max_session_items=4", "prepare.session.top_n=5"]
    config = load_config(folder / "config.yaml", session)
    (folder / "task.json").write_text(json.dumps(asdict(click_logs.make_task(config))))
    prepare(config, only=[name for name in JOBS if name != "title_neighbours"])
    return folder


@pytest.mark.parametrize("job", beam_jobs.JOBS)
@pytest.mark.parametrize("peer", peers.NAMES)
def test_a_peer_finds_what_our_job_finds(prepared, tmp_path, peer, job):
    if not peers.installed():
        pytest.skip("no duckdb and polars here; benchmarks/beam_jobs.py installs them")
    ours = prepared / "imported" / "prepared"
    command = [peers.PYTHON, "-m", f"benchmarks.peer_{peer}", job, prepared / "task.json", tmp_path / "out"]
    subprocess.run(command, cwd=measure.ROOT, check=True)
    found = job_results.of_peer(job, tmp_path / "out", known=ours)
    assert agree(job_results.of_ours(job, ours), found)


def test_every_measured_job_ends_with_the_step_that_makes_it():
    for name, job in beam_jobs.JOBS.items():
        assert job.steps[-1] == name
        assert set(job.steps) <= JOBS.keys()


# ---- the digests


def test_a_checksum_tells_rows_apart_whatever_their_order():
    a, b = np.array([1, 2, 3]), np.array([4, 4, 5])
    same = job_results.checksum(a, b)
    assert job_results.checksum(a[::-1], b[::-1]) == same
    others = [(b, a), (a, b[::-1]), (a[:2], b[:2]), (np.append(a, 1), np.append(b, 4)), (a, np.array([4, 4, 6]))]
    assert same not in [job_results.checksum(*other) for other in others]


def test_numbers_agree_to_a_relative_billionth():
    assert agree({"m": [1e9]}, {"m": [1e9 + 0.1]})
    for other in ({"m": [1e9 + 10]}, {"m": [1e9, 0.0]}, {"n": [1e9]}, {"m": "1e9"}):
        assert not agree({"m": [1e9]}, other)


# ---- the measuring


def test_a_child_is_charged_for_its_children_too():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done')"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    output, cost = measure.run([sys.executable, "-c", parent])
    assert output == "done\n"
    assert 0.3 <= cost.cpu < 3
    # No upper bound: a child begins with the peak of the process that starts it, which here has run other tests.
    assert cost.peak > 1e6


def test_a_failed_child_says_why():
    with pytest.raises(RuntimeError, match=r"exited with 3: no such luck"):
        measure.run([sys.executable, "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"])


def test_sizes_may_be_abbreviated():
    assert beam_jobs.sizes("5M,200k,70") == [70, 200_000, 5_000_000]
