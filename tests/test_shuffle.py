"""What passes a GroupByKey: files on this machine, blocks elsewhere."""

from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs import blocks
from beam_jobs.shuffle import shuffle
from pipeline.artifacts import Draft

TABLE = pa.table({"item": [3, 1, 2]})


@pytest.mark.parametrize("pipeline_args", [[], ["--direct_num_workers=2"], ["--runner=FlinkRunner"]])
def test_a_table_comes_out_as_it_went_in(tmp_path, pipeline_args):
    with shuffle(Draft(tmp_path, tmp_path), pipeline_args) as between:
        assert blocks.unpack(between.get(between.put(TABLE))).equals(TABLE)


def test_here_a_name_passes_and_the_files_are_gone_at_the_end(tmp_path):
    with shuffle(Draft(tmp_path, tmp_path), []) as between:
        written = Path(between.put(TABLE).decode())
        assert written.is_relative_to(tmp_path)
        assert written.is_file()
    assert list(tmp_path.iterdir()) == []


def test_on_other_runners_the_content_passes_and_is_smaller(tmp_path):
    zeros = pa.table({"item": [0] * 1000})
    with shuffle(Draft(tmp_path, tmp_path), ["--runner", "SparkRunner"]) as between:
        assert len(between.put(zeros)) < 1000
        assert list(tmp_path.iterdir()) == []


def test_a_block_has_the_same_bytes_on_every_runner(tmp_path):
    received = []
    for pipeline_args in ([], ["--runner=FlinkRunner"]):
        with shuffle(Draft(tmp_path, tmp_path), pipeline_args) as between:
            received.append(between.get(between.put(TABLE)))
    assert received[0] == received[1]
