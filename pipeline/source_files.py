"""Raw source files: finding them, and reading text files as blocks of lines in bounded memory."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline.config_source import SourceConfig
from pipeline.errors import ConfigError, InputError, nearest
from pipeline.progress import bar

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
_UTF8_BOM, _UTF16_BOMS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, by name: those of items and users, and those of events."""

    catalogue: dict[str, Path]
    events: dict[str, Path]


def digests(files: SourceFiles) -> dict[str, str]:
    """File name -> SHA-256 of its content. Raises InputError when a file cannot be read."""
    found = {**files.catalogue, **files.events}
    with bar(total=_sizes(found), unit="B", unit_scale=True, desc="checksums", delay=1.0) as progress:
        return {name: _digest(path, progress) for name, path in found.items()}


def check_unchanged(name: str, path: Path, digest: str) -> None:
    """Raise InputError when the content of a file is no longer that of `digest`."""
    if digests(SourceFiles({}, {name: path}))[name] != digest:
        raise InputError(f"{name} changed while it was read. Cure: import it when it is complete")


def _sizes(files: dict[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())


def _digest(path: Path, progress: tqdm) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                digest.update(chunk)
                progress.update(len(chunk))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Cure: check its permissions") from None
    return digest.hexdigest()


def source_folder(source: SourceConfig) -> Path:
    """The folder `source.path` names (`~` allowed, else relative to the current directory)."""
    if source.path is None:
        raise ConfigError(f"`source.path` is needed by `source.format: {source.format}`: the folder of the raw files")
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}. Cure: set `source.path` to the folder that holds the raw files")
    return folder


def existing_file(folder: Path, name: str, cure: str) -> Path:
    """The path of `name` in `folder`; raises InputError with the nearest name there, and the cure."""
    path = folder / name
    if path.is_file():
        return path
    present = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    raise InputError(f"no file {path}.{nearest(path.name, present)} The folder holds {present[:20]}. Cure: {cure}")


def line_blocks(path: Path, name: str) -> Iterator[tuple[int, pa.Array]]:
    """Read a text file, gzipped if its name ends in .gz, as blocks of whole lines.

    Yields: (1-based number of the first line, lines as large_binary [n] without LF or CRLF).
    Raises: InputError when it cannot be read, is UTF-16, or has a line over MAX_LINE_BYTES.
    """
    carry, number = b"", 1
    for chunk in _chunks(path, name):
        if number == 1 and not carry:
            chunk = _without_byte_order_mark(chunk, name)
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            carry += chunk
        else:
            lines = _lines(carry + head)
            yield number, lines
            number, carry = number + len(lines), tail
        if len(carry) > MAX_LINE_BYTES:
            raise InputError(f"{name}:{number}: a line over {MAX_LINE_BYTES >> 20} MB. Cure: give a text file")
    if carry:
        yield number, _lines(carry)


def _chunks(path: Path, name: str) -> Iterator[bytes]:
    try:
        with (
            path.open("rb") as raw,
            bar(total=os.path.getsize(path), unit="B", unit_scale=True, desc=name, delay=1.0) as progress,
        ):
            stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            while chunk := stream.read(BLOCK_BYTES):
                yield chunk
                progress.update(raw.tell() - progress.n)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} cannot be read ({error}). Cure: check its permissions, or fetch it again") from None


def _without_byte_order_mark(chunk: bytes, name: str) -> bytes:
    if chunk.startswith(_UTF16_BOMS):
        raise InputError(f"{name}:1: the file is UTF-16. Cure: save it as UTF-8")
    return chunk.removeprefix(_UTF8_BOM)


def _lines(text: bytes) -> pa.Array:
    """Bytes without their last LF -> large_binary [lines]."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return pc.split_pattern(pa.array([text], pa.large_binary()), b"\n").flatten()
