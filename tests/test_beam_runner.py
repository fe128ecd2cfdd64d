"""beam_jobs/runner.py: what a runner is told, and what it is understood to say."""

import re

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    StandardOptions,
)
from conftest import ROOT

from beam_jobs.job import run_pipeline
from beam_jobs.runner import failure, runner_options
from pipeline.errors import ArtifactError, JobError


def build(pipeline: beam.Pipeline) -> None:
    """Adds nothing; its module names the job."""


def test_a_job_runs_on_this_machine_unless_a_runner_is_chosen():
    here = runner_options(build, ["--direct_num_workers=3"])
    assert here.view_as(StandardOptions).runner == "FnApiRunner"
    assert here.view_as(DirectOptions).direct_num_workers == 3
    assert runner_options(build, ["--runner", "DataflowRunner"]).view_as(StandardOptions).runner == "DataflowRunner"


def test_a_job_is_named_after_its_module_and_differently_each_time():
    first, second = (runner_options(build, []).view_as(GoogleCloudOptions).job_name for _ in range(2))
    assert first.startswith("test-beam-runner-")
    assert first != second
    assert runner_options(build, ["--job_name=mine"]).view_as(GoogleCloudOptions).job_name == "mine"


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_all_jobs_share_a_job_server(runner):
    servers = [runner_options(build, [f"--runner={runner}", "--x=1"]).view_as(JobServerOptions) for _ in range(2)]
    assert servers[0].job_port == servers[1].job_port > 0
    assert servers[0].artifacts_dir == servers[1].artifacts_dir


def test_jobs_with_other_options_have_a_job_server_of_their_own():
    of_a = runner_options(build, ["--runner=FlinkRunner", "--flink_master=a"]).view_as(JobServerOptions)
    of_b = runner_options(build, ["--runner=FlinkRunner", "--flink_master=b"]).view_as(JobServerOptions)
    assert of_a.job_port != of_b.job_port


def test_a_job_server_is_where_the_user_says():
    args = ["--runner=FlinkRunner", "--job_port=8099", "--artifacts_dir=s3://a/b"]
    options = runner_options(build, args)
    assert options.view_as(JobServerOptions).job_port == 8099
    assert options.view_as(JobServerOptions).artifacts_dir == "s3://a/b"
    assert options.view_as(FlinkRunnerOptions).flink_master == "[auto]"


def test_the_flags_that_the_documentation_names_are_beams():
    text = (ROOT / "docs" / "runners.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--([a-z]+(?:_[a-z]+)*)(?=[=`/])", text)) - {"debug", "service_port"}
    assert {"runner", "flink_master", "spark_master_url", "temp_location"} <= named
    assert named <= set(PipelineOptions([]).get_all_options())


def fail_in_setup(pipeline: beam.Pipeline) -> None:
    class Opens(beam.DoFn):
        def setup(self) -> None:
            raise ArtifactError("no vocabularies at /here. Cure: run prepare")

        def process(self, number: int) -> None:
            """Never reached."""

    pipeline | beam.Create([1]) | beam.ParDo(Opens())


def fail_on_two(pipeline: beam.Pipeline) -> None:
    pipeline | beam.Create([1, 2]) | "divide" >> beam.Map(lambda number: 1 / (number - 2))


@pytest.mark.parametrize("args", [[], ["--runner=FnApiRunner"]], ids=["threads", "in process"])
def test_an_error_of_ours_keeps_its_kind_and_gains_the_job(args):
    with pytest.raises(
        ArtifactError, match=r"job test-beam-runner-\w+ failed on FnApiRunner: no vocab.*Cure: run prep"
    ):
        run_pipeline(fail_in_setup, args)


@pytest.mark.parametrize("args", [[], ["--runner=FnApiRunner"]], ids=["threads", "in process"])
def test_any_other_error_of_a_worker_is_one_line(args):
    with pytest.raises(JobError, match=r"ZeroDivisionError: division by zero .*'divide'.*Cure") as caught:
        run_pipeline(fail_on_two, args)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


FLINK = """Pipeline vocab_1 failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness for 4: \
Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in apache_beam.runners.common.DoFnRunner.process
  File "vocabularies.py", line 7, in count
    raise ValueError(
    ^^^^^^^^^^^^^^^^^
ValueError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "sdk_worker.py", line 310, in _execute
    response = task()
ValueError: two
lines
 [while running 'count']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.handle(FnApiControlClient.java:180)
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError(FLINK), "ValueError: two lines [while running 'count']"),
        (
            RuntimeError("Pipeline vocab_1 failed in state FAILED: java.net.ConnectException: Connection refused"),
            "RuntimeError: Pipeline vocab_1 failed in state FAILED: java.net.ConnectException: Connection refused",
        ),
        (FileNotFoundError(2, "No such file or directory", "java"), "FileNotFoundError: [Errno 2] No such file"),
        (TimeoutError(), "TimeoutError. Cure"),
        (ValueError("end."), "ValueError: end. Cure"),
    ],
)
def test_what_a_runner_says_becomes_one_line(error, told):
    options = runner_options(build, ["--runner=FlinkRunner", "--job_name=vocab"])
    line = str(failure(error, options))
    assert line.startswith(f"the Beam job vocab failed on FlinkRunner: {told}")
    assert "Cure" in line
    assert "\n" not in line


def test_a_job_that_ends_in_any_state_but_done_failed(monkeypatch):
    from apache_beam.runners.portability.fn_api_runner.fn_runner import RunnerResult

    monkeypatch.setattr(RunnerResult, "wait_until_finish", lambda self: "CANCELLED")
    with pytest.raises(JobError, match="ended in state CANCELLED"):
        run_pipeline(lambda pipeline: pipeline | beam.Create([1]))
