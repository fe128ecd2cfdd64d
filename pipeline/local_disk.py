"""What only this machine's disks can do: durable writes, locks that die with their owner, and scratch folders."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

LOCK = ".lock"


def fsync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Replace the file at `path` in one step, durable once this returns."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        fsync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    fsync(path.parent)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file at `path`, created where there is none; gives False when another holder has it.

    The lock is the kernel's: it ends with the process, however that ends, and the file that stays behind means
    nothing. Threads exclude each other as processes do. wait: until the other holder is done.
    """
    with open(path, "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            alone = True
        except BlockingIOError:
            alone = False
        yield alone


def cache_dir() -> Path:
    """Where copies of remote files are kept: $TWOTOWER_CACHE, or `twotower` in the user's cache folder.

    Nothing in it is precious: it may be deleted when no stage is running.
    """
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TWOTOWER_CACHE") or Path(users) / "twotower").absolute()


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder in the cache folder, gone at the end.

    A killed process leaves its own behind; whoever asks next removes those that nobody holds any more.
    """
    shelf = cache_dir() / "scratch"
    shelf.mkdir(parents=True, exist_ok=True)
    mine = shelf / uuid.uuid4().hex[:12]
    with ExitStack() as held:
        with locked(shelf / LOCK, wait=True):  # or a folder made, but not held yet, would look abandoned
            _remove_abandoned(shelf)
            mine.mkdir()
            held.enter_context(locked(mine / LOCK))
        (mine / "files").mkdir()
        try:
            yield mine / "files"
        finally:
            with locked(shelf / LOCK, wait=True):
                shutil.rmtree(mine)


def _remove_abandoned(shelf: Path) -> None:
    for folder in [path for path in shelf.iterdir() if path.is_dir()]:
        with locked(folder / LOCK) as abandoned:
            if abandoned:
                shutil.rmtree(folder)
