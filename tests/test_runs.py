"""`twotower runs`: what it lists, and what it shows side by side."""

import shutil
import signal
from collections.abc import Iterator

import pytest
from train_fixtures import EAGER_DATA, at_step, config_of, eagerly, prepare_log, send

from pipeline import cli
from pipeline.config import Config
from pipeline.differences import differing, flat
from pipeline.errors import TrainingInterruptedError
from pipeline.train import train

pytestmark = pytest.mark.filterwarnings(EAGER_DATA)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    yield from eagerly()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    """Two finished runs that differ in the learning rate and a task, and one that was stopped in its second epoch."""
    folder = str(tmp_path_factory.mktemp("runs"))
    prepare_log(folder)
    train(config_of(folder, "base"))
    task = "tasks.feature_level={weight: 0.1, batch_size: 16, negatives: 4}"
    train(config_of(folder, "faster", "train.learning_rate=0.01", task))
    stopped: Config = config_of(folder, "stopped", "train.max_epochs=3")
    with at_step(4, send(signal.SIGTERM)), pytest.raises(TrainingInterruptedError):
        train(stopped)
    return folder


def printed(capsys, *arguments: str) -> list[list[str]]:
    """The cells of what the command prints."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["runs", *arguments])
    assert caught.value.code in (0, None)
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_all_runs_are_listed_with_their_state_and_figures(workdir, capsys):
    header, _, *rows = printed(capsys, "--set", f"workdir={workdir}")
    by_name = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert [row[0] for row in rows] == ["base", "faster", "stopped"]
    assert by_name["base"]["state"] == "finished"
    assert by_name["base"]["epochs"] == "2"
    assert by_name["base"]["validation"].startswith("HIT@50 ")
    assert by_name["stopped"]["state"] == "unfinished in epoch 2, step 1"
    assert by_name["stopped"]["epochs"] == "1"


def test_runs_side_by_side_show_what_differs_and_nothing_else(workdir, capsys):
    rows = printed(capsys, "base", "faster", "--set", f"workdir={workdir}")
    cells = {row[0]: row[1:] for row in rows if len(row) == 3}
    settings = {name for name in cells if name.startswith(("train.", "tasks.", "tower.", "loss.", "source."))}
    assert settings == {
        "train.learning_rate",
        "tasks.feature_level.weight",
        "tasks.feature_level.batch_size",
        "tasks.feature_level.negatives",
    }
    assert cells["epochs"] == ["2", "2"]
    assert cells["loss of feature_level"][0] == "-"
    assert float(cells["loss of feature_level"][1]) > 0


@pytest.mark.parametrize(
    ("source", "file", "told"),
    [
        ("base", "model/run=*/metrics.jsonl", "missing or truncated"),
        ("stopped", "metrics.jsonl", "is damaged (JSONDecodeError"),
        ("stopped", "config.yaml", "is damaged (ParserError"),
        ("stopped", "checkpoint/MANIFEST.json", "is damaged"),
    ],
)
def test_a_damaged_run_is_told_and_the_others_are_listed(workdir, tmp_path, capsys, source, file, told):
    folder = shutil.copytree(f"{workdir}/runs", tmp_path / "runs")
    (spoilt,) = shutil.copytree(folder / source, folder / "spoilt").glob(file)
    spoilt.write_text("{'a': ")
    _, _, *rows = printed(capsys, "--set", f"workdir={tmp_path}")
    states = {row[0]: row[1].replace("\\", "") for row in rows}
    assert states["base"] == "finished"
    assert told in states["spoilt"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["runs", "base", "spoilt", "--set", f"workdir={tmp_path}"])
    assert caught.value.code == 4
    assert "Cure:" in capsys.readouterr().err


def test_an_unknown_run_is_refused_with_the_nearest_name(workdir, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["runs", "base", "fasterr", "--set", f"workdir={workdir}"])
    assert caught.value.code == 5
    assert "no run 'fasterr'" in (error := capsys.readouterr().err)
    assert "Did you mean `faster`?" in error


def test_a_workdir_without_runs_says_so(tmp_path, capsys):
    assert "no run at" in printed(capsys, "--set", f"workdir={tmp_path}")[0][0]


def test_differences_are_by_dotted_name_and_absent_where_missing():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
    assert differing([{"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2, "d": 4}]) == {"a.b": [1, 3], "d": ["-", 4]}
