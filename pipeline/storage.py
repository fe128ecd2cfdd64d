"""Where artefacts lie: a folder of this machine, or an object store by URL. The one door to both.

Neither kind of place ever shows half a file: a local one is written aside and renamed, a remote one comes with one
PUT (beyond 100 MB with the one request that completes its upload).
"""

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from upath import UPath

from pipeline import local_disk
from pipeline.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Location = Path | UPath
"""A path of this machine, or one in an object store. Both join with `/`, and have a name and a parent."""

READ_AT_ONCE = 8 << 20
REQUESTS_AT_ONCE = 8
S = TypeVar("S")
T = TypeVar("T")


def locate(where: Location | str) -> Location:
    """The place that a text names: `work/shop`, `file:///srv/shop`, `s3://bucket/shop`, or another URL fsspec knows.

    Raises ConfigError for a URL that is none, or whose driver is not installed.
    """
    if not isinstance(where, str):
        return where
    scheme, is_url, rest = where.partition("://")
    if not is_url:
        return Path(where)
    if scheme == "file":
        if not rest.startswith("/"):
            raise ConfigError(f"{where!r} names no absolute path. Cure: file:///path, or the path alone")
        return Path(rest)
    try:
        # A listing kept from before would hide what other machines have written since.
        path = UPath(where, use_listings_cache=False)
        _ = path.fs  # imports the driver
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{where!r} cannot be used: {error}. Cure: install the fsspec driver of `{scheme}://` (s3fs for s3://), "
            "or name a local folder"
        ) from None
    return path


def is_remote(path: Location) -> bool:
    """Whether `path` lies in an object store."""
    return isinstance(path, UPath)


def read_text(path: Location) -> str:
    """The UTF-8 text at `path`. Raises FileNotFoundError, StorageError."""
    if isinstance(path, Path):
        return path.read_text(encoding="utf-8")
    with _reaching(path):
        return path.fs.cat_file(path.path).decode("utf-8")


def replace_text(path: Location, text: str) -> None:
    """Replace the file at `path` in one step. Raises StorageError."""
    if isinstance(path, Path):
        local_disk.replace(path, text)
        return
    with _reaching(path, creating=True):
        path.fs.pipe_file(path.path, text.encode("utf-8"))


def put(source: Path, target: UPath) -> None:
    """Copy a local file into an object store, where it becomes visible as a whole. Raises StorageError."""
    with _reaching(target, creating=True):
        target.fs.put_file(str(source), target.path)


def get(source: UPath, target: Path) -> None:
    """Copy a file of an object store to a local path. Raises FileNotFoundError, StorageError."""
    with _reaching(source):
        source.fs.get_file(source.path, str(target))


def write_part(path: Location | str, write: Callable[[str], object]) -> None:
    """Call `write` with the name of a local file, then move that to `path`: a retried worker replaces, never mixes."""
    path = locate(path)
    if isinstance(path, UPath):
        with local_disk.scratch() as folder:
            write(str(folder / path.name))
            put(folder / path.name, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        write(str(aside))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def open_parquet(path: Location | str, strings: Sequence[str] = ()) -> "pq.ParquetFile":
    """Open a Parquet file where it lies; of a remote one only what is asked for is read.

    strings: columns to read dictionary-encoded.
    """
    import pyarrow.parquet as pq  # here, as the command line's --help needs no Arrow

    path = locate(path)
    if isinstance(path, Path):
        return pq.ParquetFile(path, read_dictionary=list(strings))
    # Arrow asks for whole column chunks, several in one request; fsspec's own reading ahead would only add to that.
    stream = path.fs.open(path.path, "rb", cache_type="none")
    return pq.ParquetFile(stream, read_dictionary=list(strings), pre_buffer=True)


def open_arrow(path: Location | str) -> "pa.ipc.RecordBatchFileReader":
    """Open an Arrow IPC file where it lies; a local one is mapped into memory, a remote one is read by the batch."""
    import pyarrow as pa  # here, as the command line's --help needs no Arrow

    path = locate(path)
    if isinstance(path, Path):
        return pa.ipc.open_file(pa.memory_map(str(path)))
    return pa.ipc.open_file(path.fs.open(path.path, "rb", cache_type="none"))


def sizes(folder: Location) -> dict[str, int]:
    """The bytes of every file under `folder` by its name relative to it; empty where there is no such folder.

    One listing, however many files there are. Raises StorageError.
    """
    if isinstance(folder, Path):
        return {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return {name: info["size"] for name, info in _find(folder).items()}


def glob(folder: Location, pattern: str) -> list[Location]:
    """The paths in a folder that match, in name order; none where there is no such folder."""
    return sorted(folder.glob(pattern), key=str)


def file_digest(path: Location) -> str:
    """The SHA-256 of a file's bytes, in hex. Raises OSError, StorageError."""
    if isinstance(path, Path):
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    with _reaching(path), path.fs.open(path.path, "rb", block_size=READ_AT_ONCE) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def subfolders(folder: Location, prefix: str) -> list[Location]:
    """The folders directly in `folder` whose names start with `prefix`. Raises StorageError."""
    if isinstance(folder, Path):
        return sorted(p for p in folder.glob(f"{prefix}*") if p.is_dir())
    try:
        with _reaching(folder):
            listed = folder.fs.ls(folder.path, detail=True)
    except FileNotFoundError:
        return []
    names = sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in listed if entry["type"] == "directory")
    return [folder / name for name in names if name.startswith(prefix)]


def remove(path: Location) -> None:
    """Remove a file, or a folder and all in it, as far as that is possible. Raises StorageError."""
    if isinstance(path, UPath):
        if _find(path):
            with _reaching(path):
                path.fs.rm(path.path, recursive=True)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def untouched(folder: Location, age: timedelta) -> bool:
    """Whether no file in a folder is younger than that. Raises StorageError."""
    since = datetime.now(UTC) - age
    if isinstance(folder, Path):
        return all(p.stat().st_mtime <= since.timestamp() for p in folder.rglob("*") if p.is_file())
    with _reaching(folder):
        return all(folder.fs.modified((folder / name).path) <= since for name in _find(folder))


def in_parallel(function: Callable[[S], T], arguments: Iterable[S]) -> list[T]:
    """The function of each argument, in their order; several requests to a store are under way at a time."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(function, arguments))


def _find(folder: UPath) -> dict[str, dict]:
    """What the store says of every file under a folder, by relative name."""
    with _reaching(folder):
        found = folder.fs.find(folder.path, detail=True)
    return {path.removeprefix(folder.path).lstrip("/"): info for path, info in found.items()}


@contextmanager
def _reaching(path: UPath, creating: bool = False) -> Iterator[None]:
    """Give what a driver raises (each has errors of its own) a name, a place and a cure.

    A missing file stays a FileNotFoundError, unless it is being created: then the bucket is missing.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not creating:
            raise
        raise StorageError(
            f"{path} cannot be reached ({type(error).__name__}: {error}). Cure: check the network, the bucket, and the "
            "environment with its endpoint and credentials (for s3://: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY)"
        ) from error
