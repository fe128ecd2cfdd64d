"""beam_jobs/job.py: what every job shares."""

import json

import apache_beam as beam
import pytest
from apache_beam.runners.worker.data_plane import TimeBasedBufferingClosableOutputStream

from beam_jobs.job import check_parts, count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Spec, create, open_artifact
from pipeline.config import Config
from pipeline.errors import JobError


def tally(number: int) -> int:
    count("seen", 1)
    count("total", number)
    return number


def test_a_pipeline_returns_what_its_workers_counted():
    counts = run_pipeline(lambda p: p | beam.Create([1, 2, 3, 4]) | beam.Reshuffle() | beam.Map(tally))
    assert counts == {"seen": 4, "total": 10}


def test_threads_do_not_flush_behind_the_writers_back(monkeypatch):
    """Beam's timed flush drops elements: 1 in some hundreds, in a job that runs longer than a second."""
    timed: list[object] = []
    monkeypatch.setattr(TimeBasedBufferingClosableOutputStream, "_schedule_periodic_flush", timed.append)
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    counts = run_pipeline(lambda p: p | beam.Create([1, 2]) | beam.Reshuffle() | beam.Map(tally), threads)
    assert (counts["seen"], timed) == (2, [])


def test_what_several_steps_count_under_one_name_is_added_up():
    counts = run_pipeline(lambda p: p | beam.Create([1, 2]) | "once" >> beam.Map(tally) | "twice" >> beam.Map(tally))
    assert counts == {"seen": 4, "total": 6}


def test_the_bar_ends_at_the_files_that_are_there(tmp_path, open_terminal):
    terminal = open_terminal()
    with progress("stage", [tmp_path], "part-*", expected=3):
        for name in ("part-0", "part-1", ".part-2.aside", "other"):
            (tmp_path / name).touch()
    assert "stage:  67%" in terminal.getvalue()


def test_a_log_gets_no_bar(tmp_path, capsys):
    with progress("stage", [tmp_path], "part-*", expected=1):
        (tmp_path / "part-0").touch()
    assert capsys.readouterr().err == ""


def test_the_bar_ends_when_the_stage_fails(tmp_path):
    with pytest.raises(OSError, match="disk"), progress("stage", [tmp_path], "*", expected=1):
        raise OSError("disk")


def test_a_part_that_beam_lost_is_noticed(tmp_path):
    for name in ("part-0", "part-1", ".part-2.aside"):
        (tmp_path / name).touch()
    check_parts("stage", tmp_path, "part-*", 2)
    with pytest.raises(JobError, match="stage: 2 parts of 3 came out of Beam"):
        check_parts("stage", tmp_path, "part-*", 3)


def run(config: Config, pipeline_args: list[str]) -> Artifact:
    """Stands for a job's: writes what it was given."""
    with create(config.tables_dir, Spec("given", 1)) as draft:
        (draft.dir / "given.json").write_text(json.dumps([config.name, *pipeline_args]))
        draft.counts["events"] = 3
    return open_artifact(config.tables_dir, "given", 1)


def test_the_command_line_sets_what_it_knows_and_hands_the_rest_to_beam(tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text(f"name: from-file\nworkdir: {tmp_path}\n")
    assert main(run, ["--config", str(file), "--set", "name=given", "--runner=FlinkRunner", "--flink_master=host"]) == 0
    given = open_artifact(tmp_path / "tables", "given", 1).file("given.json")
    assert json.loads(given.read_text()) == ["given", "--runner=FlinkRunner", "--flink_master=host"]


def test_the_command_line_ends_with_one_line_and_gives_the_path(tmp_path, capsys):
    assert main(run, ["--set", f"workdir={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'tables'}\n"
    assert err.startswith("given: 0.")
    assert ", 3 events (" in err
    assert err.count("\n") == 1


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
