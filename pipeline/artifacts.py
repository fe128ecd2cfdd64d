"""An artefact: a directory whose MANIFEST.json names one finished run of the stage that wrote it.

    <artefact>/MANIFEST.json        replaced atomically; the only door for readers
    <artefact>/run=<id>/<files>     written aside, never touched after the manifest names it

A stage killed at any moment leaves at most an unnamed `run=` folder, which the next run collects; the
manifest keeps naming the last good run. The run that was current before is kept, so that a reader that
opened it a moment ago can finish.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, Field, NonNegativeInt, field_validator

from pipeline.errors import ArtifactError

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Spec:
    """What identifies the content of an artefact: the same spec means the same content.

    `inputs` maps a name to the fingerprint of an artefact or file, `config` holds the settings that
    the content depends on, both JSON values.
    """

    kind: str
    version: int
    inputs: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        # Through JSON, so that a spec read back compares equal (tuples become lists).
        return json.loads(json.dumps(vars(self), sort_keys=True))


class _File(BaseModel):
    bytes: NonNegativeInt
    sha256: str


class _Spec(BaseModel):
    kind: str
    version: int
    inputs: dict[str, str]
    config: dict[str, Any]


class _Manifest(BaseModel):
    """What readers rely on; refuses names that lead out of the artefact."""

    run: str = Field(pattern=r"^run=[0-9a-f]{12}$")
    spec: _Spec
    files: dict[str, _File]
    counts: dict[str, Any]
    created: str

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, _File]) -> dict[str, _File]:
        for name in files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"the file name {name!r} leads out of the artefact")
        return files


@dataclass(frozen=True)
class Artifact:
    """A finished artefact, opened through its manifest."""

    path: Path
    manifest: dict[str, Any]

    @property
    def dir(self) -> Path:
        return self.path / self.manifest["run"]

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest["counts"]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["spec"]["config"]

    @property
    def fingerprint(self) -> str:
        """A checksum of the artefact's content; equal bytes have equal fingerprints."""
        return _digest(json.dumps(self.manifest["files"], sort_keys=True).encode())

    def file(self, name: str) -> Path:
        """The path of one file of the artefact. Raises ArtifactError when it has none of that name."""
        if name not in self.manifest["files"]:
            raise ArtifactError(f"{self.path} has no file {name!r}; it holds {sorted(self.manifest['files'])}")
        return self.dir / name

    def location(self, name: str) -> Path:
        return self.file(name)

    def locations(self, prefix: str) -> list[Path]:
        return self.parts(prefix)

    def parts(self, prefix: str) -> list[Path]:
        """The paths of all files under `prefix`, in name order."""
        return [self.dir / name for name in sorted(self.manifest["files"]) if name.startswith(prefix)]

    def checksum(self, name: str) -> str:
        """The SHA-256 of one file. Raises ArtifactError when it has none of that name."""
        self.file(name)
        return self.manifest["files"][name]["sha256"]

    def verify(self) -> None:
        """Compare every file with its checksum. Raises ArtifactError naming the first that differs."""
        for name, expected in self.manifest["files"].items():
            actual = file_digest(self.dir / name)
            if actual != expected["sha256"]:
                raise ArtifactError(f"{self.dir / name} was altered after it was written. Cure: run its stage again")


@dataclass
class Draft:
    """An artefact being written: put files under `dir`, and what was counted into `counts`."""

    dir: Path
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Path:
        return self.dir


def open_artifact(path: Path | str, kind: str, version: int) -> Artifact:
    """Open the artefact at `path`; raise ArtifactError when it is missing, foreign or truncated."""
    path = Path(path)
    manifest = _read_manifest(path, kind)
    spec = manifest["spec"]
    if (spec["kind"], spec["version"]) != (kind, version):
        raise ArtifactError(
            f"{path} is {spec['kind']!r} version {spec['version']}, but this code reads "
            f"{kind!r} version {version}. Cure: run its stage again with this code"
        )
    for name, entry in manifest["files"].items():
        file = path / manifest["run"] / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            raise ArtifactError(f"{file} is missing or truncated. Cure: run its stage again")
    return Artifact(path, manifest)


def _read_manifest(path: Path, kind: str) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        _Manifest.model_validate(manifest, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"no {kind} artefact at {path}. Cure: run the stage that writes it") from None
    except ValueError as error:  # not UTF-8, not JSON, or not a manifest
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path / MANIFEST} is damaged ({reason}). Cure: run its stage again") from None
    return manifest


def current(path: Path | str, spec: Spec) -> Artifact | None:
    """The artefact at `path` if it was made to exactly `spec`, else None (the stage must run)."""
    try:
        artifact = open_artifact(path, spec.kind, spec.version)
    except ArtifactError:
        return None
    return artifact if artifact.manifest["spec"] == spec.as_json() else None


@contextmanager
def create(path: Path | str, spec: Spec) -> Iterator[Draft]:
    """Write an artefact: files go into the draft, and become visible together when the block ends well."""
    path, started = Path(path), time.monotonic()
    run = f"run={uuid.uuid4().hex[:12]}"
    draft = Draft(path / run)
    draft.dir.mkdir(parents=True)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft.dir, ignore_errors=True)
        raise
    files = sorted(p for p in draft.dir.rglob("*") if p.is_file())
    manifest = {
        "run": run,
        "spec": spec.as_json(),
        "files": {
            p.relative_to(draft.dir).as_posix(): {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in files
        },
        "counts": draft.counts,
        "code": code_version(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.monotonic() - started, 3),
    }
    for written in (*files, draft.dir, *(p for p in draft.dir.rglob("*") if p.is_dir())):
        _fsync(written)
    previous = _current_run(path)
    write_atomically(path / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
    _collect_orphans(path, keep={run, previous})


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` in one step, durable once this returns."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        _fsync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _fsync(path.parent)


def file_digest(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_version() -> str:
    """The commit this code runs from, with `+changes` when the tree differs, or `unknown` outside git."""
    root = Path(__file__).resolve().parent.parent
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty=+changes", "--abbrev=12"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _current_run(path: Path) -> str | None:
    try:
        return json.loads((path / MANIFEST).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError):
        return None


def _collect_orphans(path: Path, keep: set[str | None]) -> None:
    for run in path.glob("run=*"):
        if run.name not in keep:
            shutil.rmtree(run, ignore_errors=True)
    for aside in path.glob(f".{MANIFEST}.*"):
        aside.unlink(missing_ok=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
