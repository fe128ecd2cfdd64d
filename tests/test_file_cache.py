"""pipeline/file_cache.py, pipeline/local_disk.py: copies complete and checked, locks that end with their holder."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from pipeline import file_cache, local_disk, storage
from pipeline.errors import ArtifactError
from pipeline.local_disk import locked, scratch
from pipeline.storage import Location, locate

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def remote(bucket) -> Location:
    """A file in an object store."""
    path = locate(bucket) / "part-0.bin"
    storage.write_part(path, lambda aside: Path(aside).write_bytes(CONTENT))
    return path


def fetch(path: Location, fingerprint: str = "print") -> Path:
    return file_cache.fetch(path, fingerprint, "deep/part-0.bin", len(CONTENT), SHA256)


def fetch_in_a_process(url: str, together: Barrier) -> None:
    together.wait()
    assert fetch(locate(url)).read_bytes() == CONTENT


# --- copies ---


def test_a_file_is_downloaded_once(remote):
    copy = fetch(remote)
    assert copy.read_bytes() == CONTENT
    storage.remove(remote)
    assert fetch(remote) == copy


def test_processes_that_ask_at_once_all_get_it(remote):
    together = SPAWN.Barrier(3)
    processes = [SPAWN.Process(target=fetch_in_a_process, args=(str(remote), together)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert list((local_disk.cache_dir() / "scratch").glob("*/*")) == []


def test_a_truncated_copy_is_replaced(remote):
    os.truncate(fetch(remote), 10)
    assert fetch(remote).read_bytes() == CONTENT


def test_a_file_altered_in_the_store_is_refused_and_not_kept(remote):
    altered = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    storage.write_part(remote, lambda aside: Path(aside).write_bytes(altered))
    with pytest.raises(ArtifactError, match=r"part-0\.bin was altered"):
        fetch(remote)
    assert [p for p in (local_disk.cache_dir() / "files").rglob("*") if p.is_file()] == []


def test_a_file_that_is_gone_is_named(remote):
    storage.remove(remote)
    with pytest.raises(ArtifactError, match=r"part-0\.bin is gone"):
        fetch(remote)


def test_copies_that_nobody_asked_for_lately_make_room(remote):
    old, used = fetch(remote, "old"), fetch(remote, "used")
    week_ago = time.time() - file_cache.UNUSED_SECONDS - 1
    for copy in (old, used):
        os.utime(copy.parent.parent, (week_ago, week_ago))
    fetch(remote, "used")
    fetch(remote, "new")
    assert (old.exists(), used.exists()) == (False, True)


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("TWOTOWER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert local_disk.cache_dir() == Path("/somewhere/twotower")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert local_disk.cache_dir() == Path("/home/somebody/.cache/twotower")
    monkeypatch.setenv("TWOTOWER_CACHE", "relative")
    assert local_disk.cache_dir() == Path.cwd() / "relative"


# --- scratch folders and locks ---


def hold(path: Path, ready: Path) -> None:
    with locked(path) as alone:
        assert alone
        ready.touch()
        time.sleep(60)


def leave_rubble(cache: str) -> None:
    os.environ["TWOTOWER_CACHE"] = cache
    with scratch() as folder:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_lock_excludes_threads_and_ends_with_its_block(tmp_path):
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "lock") as again:
        assert again


def test_a_lock_is_waited_for(tmp_path):
    order = []

    def wait() -> None:
        with locked(tmp_path / "lock", wait=True):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_kernel_releases_the_lock_of_a_killed_process(tmp_path):
    holder = SPAWN.Process(target=hold, args=(tmp_path / "lock", tmp_path / "ready"))
    holder.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with locked(tmp_path / "lock") as alone:
        assert not alone
    holder.kill()
    holder.join()
    with locked(tmp_path / "lock") as alone:
        assert alone


def test_scratch_folders_are_apart_and_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    with scratch() as one, scratch() as other:
        (one / "f").touch()
        assert list(other.iterdir()) == []
        with scratch():  # a third that comes later finds both held
            assert (one / "f").exists()
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [local_disk.LOCK]


def test_the_scratch_folder_of_a_killed_process_is_collected_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    killed = SPAWN.Process(target=leave_rubble, args=(str(tmp_path),))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob("scratch/*/files/half"))) == 1
    with scratch():
        assert list(tmp_path.glob("scratch/*/files/half")) == []


def test_a_cache_folder_that_was_deleted_is_made_again(remote):
    fetch(remote)
    shutil.rmtree(local_disk.cache_dir())
    assert fetch(remote).read_bytes() == CONTENT
