"""Never lose a run: killed, stopped, starved of disk, misled by a bad loss, and gone on with."""

import os
import resource
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kill_fixture import Executioner, executioner
from train_fixtures import EAGER_DATA, at_step, config_of, eagerly, model_of, prepare_log, records, send, variables

from pipeline.artifacts import Artifact, Spec, open_artifact
from pipeline.checkpoints import Checkpoints, Progress
from pipeline.config import Config, TrainConfig
from pipeline.errors import ArtifactError, DivergedError, TrainingError, TrainingInterruptedError
from pipeline.storage import locate, put, sizes
from pipeline.train import train
from towers.keras import tf

EVERY_STEP = "train.checkpoint_minutes=0.0000001"
HARD = (
    "tower.dropout=0.2",
    "tower.history_dropout=0.2",
    "tower.id_dropout=0.2",
    "tower.user_dropout=0.2",
    "loss={negatives: {uniform: 20, queue: 40, queue_warmup: 3, hard: {count: 2}}, frequency: {source: streaming}}",
    "tasks.feature_level={weight: 0.1, batch_size: 16, negatives: 4}",
    "train.history_sampling=others",
    "train.schedule=cosine",
    "train.batch_size=40",
    "train.deterministic=true",
)
"""All that draws random numbers, or depends on the step."""


pytestmark = pytest.mark.filterwarnings(EAGER_DATA)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    yield from eagerly()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("resume"))
    prepare_log(folder)
    return folder


@pytest.fixture(scope="module")
def killer() -> Iterator[Executioner]:
    with executioner() as process:
        yield process


def train_until(config: Config, steps: int) -> None:
    """Train, and die by SIGKILL after so many steps."""
    with at_step(steps, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        train(config)


def stopped(config: Config, steps: int) -> Config:
    """Leave a run that SIGTERM has stopped after so many steps."""
    with at_step(steps, send(signal.SIGTERM)), pytest.raises(TrainingInterruptedError):
        train(config)
    return config


def checkpoint_of(config: Config) -> Artifact:
    return open_artifact(config.run_dir / "checkpoint", "checkpoint", 1)


# --- kill -9 ---


def test_a_run_killed_at_random_steps_ends_bit_for_bit_as_if_it_had_not_been(workdir, killer):
    def dies(name: str, steps: int, *overrides: str) -> bool:
        config = config_of(workdir, name, *HARD, *overrides)
        return killer.dies(1, frozenset(), Path(workdir), train_until, config, steps)

    assert not dies("whole", 10_000)
    first, second = np.random.default_rng(7).integers(2, 10, 2).tolist()
    assert dies("killed", first, EVERY_STEP)
    assert dies("killed", second, "train.unfinished=resume")  # its checkpoints, if any, are of complete epochs
    assert not dies("killed", 10_000, "train.unfinished=resume")
    whole, killed = (config_of(workdir, name) for name in ("whole", "killed"))
    assert records(whole) == records(killed)
    expected, found = (variables(model_of(config), "weights") for config in (whole, killed))
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not np.array_equal(value, found[name])] == []


# --- going on ---


def test_a_stopped_run_goes_on_with_its_best_epoch_and_its_patience(workdir):
    settings = ("train.max_epochs=15", "train.patience=2", "train.learning_rate=0.05", "train.monitor=3")
    whole = train(config_of(workdir, "patient", *settings)).counts
    assert whole["epochs"] == whole["best_epoch"] + 2 < 15
    steps = -(-whole["examples"] // 128)
    config = stopped(config_of(workdir, "patient-stopped", *settings), steps * whole["best_epoch"] + 2)
    assert checkpoint_of(config).counts == {"epoch": whole["best_epoch"] + 1, "step": 2}
    assert train(config_of(workdir, "patient-stopped", *settings, "train.unfinished=resume")).counts == whole
    expected, found = (variables(model_of(config_of(workdir, name)), "weights") for name in ("patient", config.name))
    assert all(np.array_equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize(
    ("epoch", "best_epoch", "finished"), [(1, 0, False), (3, 2, False), (5, 2, False), (6, 2, True), (21, 20, True)]
)
def test_a_run_is_finished_after_its_last_epoch_or_its_patience(epoch, best_epoch, finished):
    assert Progress(epoch=epoch, best_epoch=best_epoch).finished(TrainConfig(max_epochs=20, patience=3)) == finished


@pytest.fixture(scope="module")
def half(workdir) -> Config:
    """A run stopped after three steps; nobody changes it."""
    return stopped(config_of(workdir, "half"), 3)


@pytest.fixture
def unfinished(half, workdir) -> Callable[..., Config]:
    """unfinished(setting, ...): a config with a copy of that half run for its own."""
    name = f"half-{uuid.uuid4().hex[:8]}"
    shutil.copytree(half.run_dir, half.run_dir.with_name(name))
    return lambda *settings: config_of(workdir, name, *settings)


def test_a_half_run_is_not_overwritten_without_being_asked(half):
    with pytest.raises(TrainingError, match=r"unfinished run \(epoch 1, step 3\)\. Cure: go on with `--resume`, or"):
        train(half)


@pytest.mark.parametrize(
    ("asked", "cure"), [("ask", "choose another `name`"), ("resume", "resume it with its own settings")]
)
def test_a_half_run_of_other_settings_is_refused_with_what_differs(unfinished, asked, cure):
    with pytest.raises(TrainingError, match=rf"`tower\.normalize` True -> False.*Cure: {cure}"):
        train(unfinished("tower.normalize=false", f"train.unfinished={asked}"))


@pytest.mark.parametrize("asked", ["restart", "auto"])
def test_a_half_run_of_other_settings_makes_room_when_told_to(unfinished, asked):
    config = unfinished()
    assert Checkpoints(config, Spec("model", 1, config={"other": 1})).begin(asked) is None
    assert not (config.run_dir / "checkpoint").exists()


def test_resume_without_a_checkpoint_begins_and_says_so(workdir, capsys):
    config = config_of(workdir, "nothing", "train.max_epochs=1", "train.unfinished=resume")
    assert train(config).counts["epochs"] == 1
    assert "no checkpoint to resume from" in capsys.readouterr().err
    assert not (config.run_dir / "tensorboard").exists()


def test_a_run_on_an_object_store_goes_on_and_keeps_two_checkpoints(workdir, bucket):
    for name in sizes(Path(workdir)):
        if name.startswith(("tables", "prepared")):
            put(Path(workdir) / name, locate(bucket) / "work" / name)
    settings = (f"{bucket}/work", "remote", EVERY_STEP)
    config = stopped(config_of(*settings), 3)
    assert len({name.partition("/")[0] for name in sizes(config.run_dir / "checkpoint")}) == 3  # and the manifest
    assert train(config_of(*settings, "train.unfinished=resume")).counts["epochs"] == 2
    assert not sizes(config.run_dir / "checkpoint")


# --- what goes wrong ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_stops_with_its_exit_code(workdir, number, code):
    config = config_of(workdir, f"signal-{code}")
    with (
        at_step(2, send(number)),
        pytest.raises(TrainingInterruptedError, match=r"at epoch 1, step 2;.*`--resume`") as caught,
    ):
        train(config)
    assert caught.value.exit_code == code
    assert checkpoint_of(config).counts == {"epoch": 1, "step": 2}


def test_a_bad_loss_leaves_its_batch_and_the_last_good_checkpoint(workdir):
    config = config_of(workdir, "bad", EVERY_STEP, "train.learning_rate=1e30", "tower.normalize=false")
    with pytest.raises(TrainingError, match=r"in epoch 1, step (\d+); its batch is in") as caught:
        train(config)
    step = int(str(caught.value).partition("step ")[2].partition(";")[0])
    with np.load(config.run_dir / "bad_batch.npz") as batch:
        assert batch["history"].shape == (128, 4)
        assert batch["positive"].min() > 0
    good = checkpoint_of(config)
    good.verify()
    assert good.counts == {"epoch": 1, "step": step - 1}


def test_a_gradient_that_is_not_finite_stops_the_run_before_its_weights_are_kept(workdir):
    config = config_of(workdir, "steep", EVERY_STEP, "loss.temperature=1e-25")
    with pytest.raises(DivergedError, match=r"gradient's norm is inf in epoch 1, step 1; its batch .*Cure: a smaller"):
        train(config)
    assert (config.run_dir / "bad_batch.npz").exists()
    assert not (config.run_dir / "checkpoint").exists()
    train(config_of(workdir, "steep"))
    assert not (config.run_dir / "bad_batch.npz").exists()


def test_a_model_that_diverges_in_the_last_step_of_an_epoch_stops_the_run(workdir):
    config = config_of(workdir, "late", "train.learning_rate=1e30", "tower.normalize=false", "train.batch_size=512")
    with pytest.raises(DivergedError, match=r"a score is NaN: .*Cure: train again with a smaller learning rate, and"):
        train(config)
    assert not (config.run_dir / "checkpoint").exists()


def test_a_full_disk_stops_the_run_and_leaves_the_last_good_checkpoint(workdir):
    config = config_of(workdir, "full", EVERY_STEP)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # the kernel refuses larger files

    try:
        with at_step(3, fill), pytest.raises(TrainingError, match=r"of epoch 1, step 3 cannot be written.*make room"):
            train(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    good = checkpoint_of(config)
    good.verify()
    assert good.counts == {"epoch": 1, "step": 2}


def test_a_folder_that_cannot_be_copied_is_told_in_one_line(workdir, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).symlink_to("nowhere")
    checkpoints = Checkpoints(config_of(workdir, "copied"), Spec("model", 1))
    with pytest.raises(TrainingError, match=r"copied \(\[Errno 2\] No such file or directory: '[^']*'\)\. The last"):
        checkpoints.save(tf.Module(), Progress(), tmp_path)


def test_an_altered_checkpoint_is_refused_with_the_cure(unfinished):
    config = unfinished("train.unfinished=resume")
    (state,) = config.run_dir.glob("checkpoint/run=*/state.data*")
    state.write_bytes(bytes(state.stat().st_size))
    with pytest.raises(ArtifactError, match=r"state\.data.* was altered.*Cure: `--restart` drops"):
        train(config)
    state.unlink()
    with pytest.raises(ArtifactError, match=r"missing or truncated\. Cure: `--restart` drops"):
        train(config)


@pytest.mark.parametrize("file", ["run=*/state.data*", "MANIFEST.json"])
def test_a_damaged_checkpoint_leaves_the_one_before_it(workdir, capsys, file):
    whole = config_of(workdir, f"sound-{file[:3]}", "train.deterministic=true")
    train(whole)
    config = stopped(config_of(workdir, f"damaged-{file[:3]}", EVERY_STEP, "train.deterministic=true"), 3)
    newest = checkpoint_of(config).dir
    for path in config.run_dir.glob(f"checkpoint/{file}"):
        if path.parent in (newest, newest.parent):
            path.write_bytes(bytes(path.stat().st_size))
    resumed = config_of(workdir, config.name, "train.deterministic=true", "train.unfinished=resume")
    train(resumed)
    told = capsys.readouterr().err
    assert "The newest that is whole is taken" in told
    assert f"resuming from epoch 1, step {2 if file.startswith('run=') else 3}" in told
    assert records(resumed) == records(whole)
