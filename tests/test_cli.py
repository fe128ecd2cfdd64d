"""pipeline/cli.py: options, exit codes and one-line errors. The stages themselves are replaced or fail early."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, stages
from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError, ConfigError, InputError, RequestError, TwoTowerError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ["import", "prepare", "train", "tune", "runs", "evaluate", "export", "rollback", "serve", "query", "run"]


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def configs(monkeypatch) -> dict[str, Config]:
    """Stages that do nothing but remember the config they were given, by name."""
    seen: dict[str, Config] = {}

    def remember(name: str):
        def stage(config: Config) -> list[Artifact]:
            seen[name] = config
            return []

        return stage

    monkeypatch.setattr(stages, "STAGES", {name: remember(name) for name in stages.STAGES})
    return seen


@pytest.fixture
def failing(monkeypatch):
    """failing(error): make every stage raise it."""

    def install(error: BaseException) -> None:
        def stage(_: Config) -> list[Artifact]:
            raise error

        monkeypatch.setattr(stages, "STAGES", dict.fromkeys(stages.STAGES, stage))

    return install


# --- help ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    assert exit_code(command, "--help") == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert f"twotower {command}" in text.split("Example")[-1]


def test_the_help_lists_the_commands_and_the_exit_codes(capsys):
    assert exit_code("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert "Exit codes" in text


def test_help_is_fast():
    """In CPU time, because how long a busy machine takes says nothing about the program."""
    code = (
        "import atexit, time; from pipeline import cli; "
        "atexit.register(lambda: print(time.process_time())); cli.main(['--help'])"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(process.stdout.splitlines()[-1]) < 1.0


# --- settings ---


def test_settings_of_file_and_command_line_reach_the_stage(tmp_path, configs):
    (tmp_path / "e.yaml").write_text("train: {seed: 3, batch_size: 64}\n")
    assert exit_code("train", "-c", str(tmp_path / "e.yaml"), "--set", "train.seed=4", "--set", "name=x") == 0
    assert configs["train"] == Config(name="x", train={"seed": 4, "batch_size": 64})


@pytest.mark.parametrize("name", ["movielens", "recbole", "table", "demo"])
def test_import_takes_format_and_path_as_arguments(name, configs):
    assert exit_code("import", name, "some: [where]", "--set", "source.path=elsewhere") == 0
    assert configs["import"].source.format == name
    assert configs["import"].source.path == "some: [where]"


def test_import_without_arguments_follows_the_config(configs):
    assert exit_code("import", "--set", "source.format=table", "--set", "source.path=logs") == 0
    assert (configs["import"].source.format, configs["import"].source.path) == ("table", "logs")


def test_run_runs_every_stage_in_order(configs, monkeypatch, capsys):
    monkeypatch.setitem(stages.STAGES, "evaluate", lambda config: [configs.setdefault("evaluate", config)])
    monkeypatch.setattr(stages, "_timed", lambda name, stage: stage())
    monkeypatch.setattr(stages, "print_report", lambda artifact: None)
    assert exit_code("run") == 0
    assert list(configs) == ["import", "prepare", "train", "evaluate", "export"]
    assert "[2/5] prepare" in capsys.readouterr().err


def test_prepare_passes_jobs_and_beam_options_on(monkeypatch):
    seen = []
    monkeypatch.setattr(stages, "_beam_jobs", lambda config, only, options: seen.append((only, list(options))) or [])
    command = ["prepare", "--only", "vocabularies", "--only", "user_sequences", "--", "--runner=X", "--y", "1"]
    assert exit_code(*command) == 0
    assert seen == [(["vocabularies", "user_sequences"], ["--runner=X", "--y", "1"])]


def test_a_job_named_without_only_is_not_taken_for_a_beam_option(capsys):
    assert exit_code("prepare", "vocabularies") == 2
    assert "--only vocabularies" in capsys.readouterr().err


def test_serve_takes_host_and_port(monkeypatch):
    seen = []
    monkeypatch.setattr(stages, "serve", seen.append)
    assert exit_code("serve", "--host", "0.0.0.0", "--port", "0") == 0
    assert (seen[0].serve.host, seen[0].serve.port) == ("0.0.0.0", 0)


@pytest.mark.parametrize("asked", [[], ["--item", "i", "--user", "u"], ["--item", "i", "--history", "a"]])
def test_query_wants_a_user_or_an_item(asked, capsys):
    assert exit_code("query", *asked) == 2
    assert "either --user" in capsys.readouterr().err


# --- errors ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such thing"), 2),
        (InputError("no such thing"), 3),
        (ArtifactError("no such thing"), 4),
        (RequestError("no such thing"), 5),
        (TwoTowerError("no such thing"), 1),
    ],
)
def test_an_error_is_one_line_and_the_exit_code_of_its_kind(error, code, failing, capsys):
    failing(error)
    assert exit_code("train") == code
    assert capsys.readouterr().err == "error: no such thing\n"


def test_debug_shows_the_traceback_and_keeps_the_exit_code(failing, capsys):
    failing(InputError("no such thing"))
    assert exit_code("train", "--debug") == 3
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("error: no such thing\n")


def test_debug_does_not_outlive_its_command(failing, capsys):
    failing(InputError("no such thing"))
    exit_code("train", "--debug")
    capsys.readouterr()
    exit_code("train")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["frobnicate"], ["train", "--frobnicate"], ["import", "csv"], ["query", "-k", "0"]]
)
def test_a_wrong_option_exits_with_2(command):
    assert exit_code(*command) == 2


def test_a_missing_bundle_is_an_artefact_error_naming_it(tmp_path, capsys):
    assert exit_code("query", "--user", "u", "--set", f"workdir={tmp_path}") == 4
    assert str(tmp_path) in capsys.readouterr().err


BROKEN = "import sys; from pipeline import cli, stages; stages.STAGES['train'] = {stage}; cli.main(sys.argv[1:])"


def run_broken(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BROKEN.format(stage=stage), "train", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bug_is_one_line_too_and_exits_with_1():
    process = run_broken("lambda config: 1 / 0")
    assert process.returncode == 1
    assert process.stderr == "error: ZeroDivisionError: division by zero (--debug shows the traceback)\n"


def test_a_full_disk_is_one_line_with_its_cure():
    process = run_broken("lambda config: open('/dev/full', 'wb', buffering=0).write(b'1')")
    assert process.returncode == 1
    assert "No space left on device. Cure: make room on that disk" in process.stderr
    assert process.stderr.count("\n") == 1


def test_debug_shows_the_traceback_of_a_bug():
    process = run_broken("lambda config: 1 / 0", "--debug")
    assert process.returncode == 1
    assert "Traceback" in process.stderr


def test_an_interrupt_exits_with_130_and_no_traceback():
    # A shell's background jobs ignore interrupts, and so would this one.
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = run_broken(f"lambda config, signal=__import__('signal'): ({heard}, signal.raise_signal(signal.SIGINT))")
    assert process.returncode == 130
    assert "Traceback" not in process.stderr
