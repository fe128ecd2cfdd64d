"""beam_jobs/job.py: what every job shares."""

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact
from pipeline.config import Config


def tally(number: int) -> int:
    count("seen", 1)
    count("total", number)
    return number


def test_a_pipeline_returns_what_its_workers_counted():
    counts = run_pipeline(lambda p: p | beam.Create([1, 2, 3, 4]) | beam.Reshuffle() | beam.Map(tally))
    assert counts == {"seen": 4, "total": 10}


def test_the_bar_ends_at_the_files_that_are_there(tmp_path, capsys):
    with progress("stage", [tmp_path], "part-*", expected=3):
        for name in ("part-0", "part-1", ".part-2.aside", "other"):
            (tmp_path / name).touch()
    assert "stage:  67%" in capsys.readouterr().err


def test_the_bar_ends_when_the_stage_fails(tmp_path):
    with pytest.raises(OSError, match="disk"), progress("stage", [tmp_path], "*", expected=1):
        raise OSError("disk")


def run(config: Config, pipeline_args: list[str]) -> Artifact:
    """Stands for a job's."""
    counts = {"name": config.name, "args": pipeline_args}
    return Artifact(config.tables_dir, {"counts": counts})


def test_the_command_line_sets_what_it_knows_and_hands_the_rest_to_beam(tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text("name: from-file\nworkdir: here\n")
    assert main(run, ["--config", str(file), "--set", "name=given", "--runner=FlinkRunner", "--flink_master=host"]) == 0
    assert "['--runner=FlinkRunner', '--flink_master=host']" in capsys.readouterr().out


def test_a_wrong_setting_is_one_line_and_its_exit_code(capsys):
    assert main(run, ["--set", "prepare.partition=3"]) == 2
    assert "Did you mean `partitions`" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vocabularies", "user_sequences", "title_neighbours"])
def test_help_says_what_the_job_does(name, capsys):
    module = __import__(f"beam_jobs.{name}", fromlist=["run"])
    with pytest.raises(SystemExit, match="0"):
        main(module.run, ["--help"])
    shown = capsys.readouterr().out
    assert f"python -m beam_jobs.{name}" in shown
    assert module.__doc__.split()[0] in shown


def test_beams_threads_do_not_flush_by_the_clock():
    # Beam 2.77 drops elements when they do; 3 of 5 runs of 40 x 4 x 600 KB lost some on a busy machine.
    assert worker_handlers.DATA_BUFFER_TIME_LIMIT_MS >= 10**9
