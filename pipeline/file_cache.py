"""Local copies of the files of remote artefacts, by content, each downloaded once.

    <cache folder>/files/<fingerprint of the artefact>/<name of the file>

The files of one artefact lie side by side, as some readers want them (a checkpoint is several files of one prefix).
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from upath import UPath

from pipeline import local_disk, storage
from pipeline.errors import ArtifactError

UNUSED_SECONDS = 7 * 86_400
"""Files of an artefact that nobody asked for in this time make room for new ones."""


def fetch(source: UPath, fingerprint: str, name: str, size: int, sha256: str) -> Path:
    """The local copy of the file `name` of an artefact; processes that ask at once do not disturb each other.

    Raises ArtifactError when the file is gone or not what was written, StorageError when it cannot be reached.
    """
    folder = local_disk.cache_dir() / "files" / fingerprint
    path = folder / name
    try:
        os.utime(folder)
    except FileNotFoundError:
        _make_room(folder.parent)
    if not path.is_file() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(source, path, sha256)
    return path


def _download(source: UPath, path: Path, sha256: str) -> None:
    with local_disk.scratch() as aside:
        try:
            storage.get(source, aside / path.name)
        except FileNotFoundError:
            raise ArtifactError(f"{source} is gone: newer runs replaced it. Cure: run this again") from None
        if storage.file_digest(aside / path.name) != sha256:
            raise ArtifactError(f"{source} was altered after it was written. Cure: run its stage again")
        local_disk.fsync(aside / path.name)
        os.replace(aside / path.name, path)


def _make_room(files: Path) -> None:
    for folder in files.glob("*"):
        with suppress(FileNotFoundError):  # others make room too
            if time.time() - folder.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
