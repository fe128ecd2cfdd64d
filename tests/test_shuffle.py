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


def test_on_other_runners_the_block_itself_passes(tmp_path):
    with shuffle(Draft(tmp_path, tmp_path), ["--runner", "SparkRunner"]) as between:
        assert between.put(TABLE) == blocks.pack(TABLE)
        assert list(tmp_path.iterdir()) == []
