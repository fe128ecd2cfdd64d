"""Bad configs and unfit artefacts are refused before the first step, each with its cure."""

import shutil
from pathlib import Path

import pytest
from beam_fixtures import run_through
from train_fixtures import config_of, prepare_log

from pipeline.config import Config
from pipeline.errors import ArtifactError, ConfigError
from pipeline.fit import Fit
from pipeline.importers import import_source
from pipeline.prepare import prepare
from pipeline.train import train


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("checks"))
    prepare_log(folder)
    prepare(config_of(folder, "any"), only=["joint_counts", "mutual_information", "session_cooccurrence"])
    return folder


@pytest.fixture
def copy(prepared, tmp_path) -> str:
    """A copy of the prepared log, to be spoilt."""
    return shutil.copytree(prepared, tmp_path / "copy").as_posix()


@pytest.fixture(autouse=True)
def no_step(monkeypatch) -> None:
    """No training run may begin here."""

    def run(self: Fit) -> None:
        raise AssertionError("a step was run")

    monkeypatch.setattr(Fit, "run", run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.max_epochs=0"], r"`train\.max_epochs` is 0: nothing is trained\. Cure: 1 or more, or a `train\.warm"),
        (["train.batch_size=1"], r"`train\.batch_size` is 1, but the negatives .*Cure: a larger batch"),
        (
            ["train.batch_size=1000000000"],
            r"`train\.batch_size` 1,000,000,000 makes a step of .* GiB of embedded histories.*Cure: a smaller number",
        ),
        (
            ["loss.negatives.uniform=100000000000"],
            r"negatives\.uniform` 100,000,000,000 makes a step of .* embedded items",
        ),
        (["loss.negatives.queue=100000000000"], r"negatives\.queue` 100,000,000,000 makes a step of .* vectors"),
        (["loss.negatives.hard.count=3000000"], r"`\.hard\.count` 3,000,000 makes a step of .* a user's negatives"),
        (
            ["tasks.feature_masking={weight: 1, batch_size: 3000000}"],
            r"`tasks\.feature_masking\.batch_size` 3,000,000 makes a step of .* scores",
        ),
        (["loss.negatives.hard={count: 2, index: nonsense}"], r"hard\.index`: FAISS cannot build 'nonsense'.*Cure"),
        (["tower.user_fields=[]", "tower.user_dropout=0.1"], r"`tower\.user_dropout` hides .* read none\. Cure"),
        (["train.warm_start_field=tags"], r"'tags'\. Cure: one of .*'category'"),
        (["tower.heads=3"], r"`tower\.history_dim` 8 cannot be cut into `tower\.heads` 3.*Cure: a multiple"),
        (["tower.heads=7", "tower.history_dim=null"], r"item fields of .* cannot be cut into `tower\.heads` 7.*Cure"),
        (
            ["tasks.feature_level={weight: 1, batch_size: 1}"],
            r"feature_level\.batch_size` is 1.*Cure: 2 or more",
        ),
        (
            ["tasks.feature_masking.weight=1", "tower.item_fields=[item_id]"],
            r"the towers read only \['item_id'\]\.",
        ),
        (["tower.item_fields=[item_id, categry]"], r"no field 'categry'\. Did you mean `category`\?"),
        (["split.min_events=3"], r"cut by another `split`.*Cure: run `twotower prepare` again"),
    ],
)
def test_an_impossible_setting_is_refused(prepared, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(config_of(prepared, "refused", *settings))


@pytest.mark.parametrize(
    "settings", [["tower.hidden=[]"], ["tower.item_fields=[]"], ["train.seed=-1"], ["train.checkpoint_minutes=0"]]
)
def test_a_setting_out_of_range_is_refused_when_it_is_read(prepared, settings):
    with pytest.raises(ConfigError, match=settings[0].partition("=")[0].replace(".", r"\.")):
        config_of(prepared, "refused", *settings)


def test_heads_are_asked_of_the_tower_that_has_them(prepared):
    with pytest.raises(AssertionError, match="a step was run"):
        train(config_of(prepared, "mean", "tower.kind=youtube_dnn", "tower.heads=3"))


def test_a_weight_without_its_artefact_is_refused(prepared):
    config = config_of(prepared, "refused", "tasks.semantic_level.weight=0.3")
    with pytest.raises(ArtifactError, match=r"weight` is 0\.3, but no title_neighbours artefact.*Cure: `twotower prep"):
        train(config)


def changed_catalogue(config: Config) -> None:
    """Import a longer log and renew the vocabularies alone."""
    import_source(config)
    run_through(config, "vocabularies")


def test_sequences_older_than_the_vocabularies_are_refused(copy):
    config = config_of(copy, "refused", "source.demo={users: 60, items: 45, events: 600}")
    changed_catalogue(config)
    with pytest.raises(ArtifactError, match=r"user_sequences is older than the vocabularies: .*Cure: run `twotower"):
        train(config)


def test_vocabularies_older_than_the_tables_are_refused(copy):
    config = config_of(copy, "refused", "source.demo={users: 60, items: 45, events: 600}")
    import_source(config)
    with pytest.raises(ArtifactError, match=r"vocabularies is older than the tables: items changed since"):
        train(config)


@pytest.mark.parametrize(
    ("task", "job", "source"),
    [
        ("feature_masking", "mutual_information", "the vocabularies"),
        ("session_level", "session_cooccurrence", "the user sequences"),
    ],
)
def test_a_task_artefact_older_than_what_it_was_made_from_is_refused(copy, task, job, source):
    log = "source.demo={users: 60, items: 45, events: 600}"
    config = config_of(copy, "refused", log, f"tasks.{task}.weight=0.1")
    changed_catalogue(config)
    run_through(config, "user_sequences")
    with pytest.raises(ArtifactError, match=rf"{job} is older than {source}.*Cure: run `twotower prepare`"):
        train(config)


def test_a_corrupted_shard_is_refused_and_the_cure_cures(copy):
    config = config_of(copy, "refused")
    shard = next(Path(copy).glob("prepared/user_sequences/run=*/part-*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{shard.name} was altered.*Cure: delete it, and run its stage again"):
        train(config)
    shard.unlink()
    run_through(config, "user_sequences")
    with pytest.raises(AssertionError, match="a step was run"):
        train(config)
