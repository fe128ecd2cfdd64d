"""pipeline/config.py: defaults, files, overrides, and errors that name the cure."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_without_a_file_every_setting_has_its_default():
    assert load_config(None) == Config()


def test_a_file_holds_only_what_differs(tmp_path):
    config = load_config(write(tmp_path, "train:\n  seed: 3\n"))
    assert config == Config(train={"seed": 3})


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_config(write(tmp_path, "# nothing yet\n")) == Config()


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("train.seed=5", lambda c: c.train.seed, 5),
        ("train.learning_rate=1e-4", lambda c: c.train.learning_rate, 1e-4),
        ("tower.hidden=[32, 16]", lambda c: c.tower.hidden, [32, 16]),
        ("tower.normalize=false", lambda c: c.tower.normalize, False),
        ("evaluate.gap_seconds=null", lambda c: c.evaluate.gap_seconds, None),
        ("tasks.feature_masking.weight=0.3", lambda c: c.tasks.feature_masking.weight, 0.3),
        ("split.test_start=2024-01-31T00:00:00", lambda c: c.split.test_start, "2024-01-31T00:00:00"),
        ("split.test_start=2024-01-31", lambda c: c.split.test_start, "2024-01-31"),
        ("workdir=a=b", lambda c: c.workdir, "a=b"),
        ("name=7", lambda c: c.name, "7"),
    ],
)
def test_an_override_is_a_yaml_value_at_a_dotted_key(override, read, expected):
    assert read(load_config(None, [override])) == expected


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path):
    path = write(tmp_path, "train: {seed: 3, batch_size: 64}\n")
    train = load_config(path, ["train.seed=4", "train.seed=5"]).train
    assert (train.seed, train.batch_size) == (5, 64)


@pytest.mark.parametrize("text", ["2023-11-03T14:38:47", "'2023-11-03T14:38:47'", "2023-11-03 14:38:47"])
def test_a_time_may_be_written_as_yaml_knows_it_or_quoted(tmp_path, text):
    config = load_config(write(tmp_path, f"split:\n  test_start: {text}\n"))
    assert config.split.test_start is not None
    assert config.split.test_start.replace(" ", "T") == "2023-11-03T14:38:47"


def test_every_config_survives_being_written_and_read(tmp_path):
    config = load_config(None, ["tower.hidden=[8]", "source.table.item_fields=[{name: tags, kind: multi}]"])
    assert load_config(write(tmp_path, yaml.safe_dump(config.model_dump()))) == config


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path):
    message = refusal(write(tmp_path, "train:\n  batchsize: 64\n"))
    assert "experiment.yaml" in message
    assert "`train.batchsize`" in message
    assert "Did you mean `batch_size`?" in message


def test_an_unknown_section_far_from_every_name_lists_the_known_ones():
    assert "'train'" in refusal(None, "zzzzzz.q=1")


def test_an_unknown_key_inside_a_list_of_fields_is_refused():
    message = refusal(None, "source.table.item_fields=[{name: tags, kind: multi, seperator: ','}]")
    assert "Did you mean `separator`?" in message


def test_every_wrong_setting_is_named_at_once():
    message = refusal(None, "train.seed=x", "loss.temperature=0")
    assert "`train.seed`" in message
    assert "`loss.temperature`" in message


@pytest.mark.parametrize(
    "override",
    [
        "train.batch_size=0",
        "tower.kind=lstm",
        "split.kind=random",
        "serve.port=70000",
        "name=a/b",
        "name=..",
        "train=3",
    ],
)
def test_an_impossible_value_is_refused_naming_its_key(override):
    assert f"`{override.split('=')[0]}`" in refusal(None, override)


def test_setting_below_a_single_value_is_refused():
    assert "`seed` is a single value" in refusal(None, "train.seed=1", "train.seed.x=2")


@pytest.mark.parametrize("override", ["train.seed", "=3", ""])
def test_an_override_without_key_or_value_says_how_to_write_one(override):
    assert "--set takes a.b=value" in refusal(None, override)


def test_an_override_that_is_not_yaml_is_refused():
    assert "--set tower.hidden" in refusal(None, "tower.hidden=[1")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"train: [1", "not valid YAML"), (b"- 1\n", "must hold a mapping"), (b"name: \xff\xfe\n", "not UTF-8")],
)
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path, content, expected):
    path = tmp_path / "experiment.yaml"
    path.write_bytes(content)
    message = refusal(path)
    assert "experiment.yaml" in message
    assert expected in message


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    assert "no config file" in refusal(tmp_path / "nowhere.yaml")
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid(path):
    assert load_config(path).name


def test_paths_derive_from_workdir_and_name():
    config = Config(workdir="w", name="n")
    assert config.tables_dir == Path("w/tables")
    assert config.prepared_dir("vocabularies") == Path("w/prepared/vocabularies")
    assert config.run_dir == Path("w/runs/n")
    assert config.bundle_dir == Path("w/bundles/n")
