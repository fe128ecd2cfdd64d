"""An artefact: a directory whose MANIFEST.json names one finished run of the stage that wrote it.

    <artefact>/MANIFEST.json        replaced atomically; the only door for readers
    <artefact>/run=<id>/<files>     written aside, never touched after the manifest names it; its manifest among them
    <artefact>/.lock                held while a local artefact is written

A stage killed at any moment leaves at most an unnamed `run=` folder, which the next run collects; the
manifest keeps naming the last good run. The run that was current before is kept, so that a reader that
opened it a moment ago can finish, and that a bundle can be rolled back.

An artefact lies in a local folder or, by URL, in an object store (pipeline/storage.py). There nobody can hold a lock
that ends with its holder: two writers never touch each other's files, the last manifest stands, and an unnamed run
is collected once nothing was written into it for ORPHAN_AGE.
"""

import hashlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import file_cache, local_disk, storage
from pipeline import manifest as manifests
from pipeline.errors import ArtifactError, StorageError
from pipeline.manifest import MANIFEST
from pipeline.storage import Location, file_digest

ORPHAN_AGE = timedelta(days=1)
"""Longer than any job pauses between two of its part files: a remote run as old as this has no writer any more."""


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


@dataclass(frozen=True)
class Artifact:
    """A finished artefact, opened through its manifest."""

    path: Location
    manifest: dict[str, Any]

    @property
    def dir(self) -> Location:
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
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    def file(self, name: str) -> Path:
        """The local path of one file of the artefact; a remote file is downloaded once, and checked.

        Raises ArtifactError when the artefact has none of that name, or the download is not what was written.
        """
        location = self.location(name)
        if isinstance(location, Path):
            return location
        entry = self.manifest["files"][name]
        return file_cache.fetch(location, self.fingerprint, name, entry["bytes"], entry["sha256"])

    def parts(self, prefix: str) -> list[Path]:
        """The local paths of all files under `prefix`, in name order; see `file`."""
        return storage.in_parallel(self.file, self._names(prefix))

    def location(self, name: str) -> Location:
        """Where one file lies, for workers on other machines. Raises ArtifactError when there is none of that name."""
        if name not in self.manifest["files"]:
            raise ArtifactError(f"{self.path} has no file {name!r}; it holds {sorted(self.manifest['files'])}")
        return self.dir / name

    def checksum(self, name: str) -> str:
        """The SHA-256 of one file, in hex. Raises ArtifactError when there is none of that name."""
        self.location(name)
        return self.manifest["files"][name]["sha256"]

    def locations(self, prefix: str) -> list[Location]:
        """Where all files under `prefix` lie, in name order."""
        return [self.dir / name for name in self._names(prefix)]

    def verify(self) -> None:
        """Compare every file, as `file` gives it, with its checksum. Raises ArtifactError naming one that differs."""
        storage.in_parallel(self._verify_file, self.manifest["files"])

    def _verify_file(self, name: str) -> None:
        path = self.file(name)
        if file_digest(path) != self.checksum(name):
            cure = "delete it" if storage.is_remote(self.path) else "delete it, and run its stage again"
            raise ArtifactError(f"{path} was altered after it was written. Cure: {cure}")

    def _names(self, prefix: str) -> list[str]:
        return [name for name in sorted(self.manifest["files"]) if name.startswith(prefix)]


@dataclass
class Draft:
    """An artefact being written: put files under `dir`, and what was counted into `counts`.

    dir: a local folder. target: the folder that becomes the artefact, where workers on other machines write their
    parts (storage.write_part); `dir` itself unless the artefact is remote.
    """

    dir: Path
    target: Location
    counts: dict[str, Any] = field(default_factory=dict)


def open_artifact(
    path: Location | str, kind: str, version: int, older: tuple[int, ...] = (), *, run: str | None = None
) -> Artifact:
    """Open the artefact at `path`, of this version or one of the `older` ones that the caller reads too.

    run: one of its runs that is kept, else the current one.
    Raises ArtifactError when it is missing, foreign or truncated, StorageError when the store cannot be reached.
    """
    path = storage.locate(path)
    manifest = manifests.read(path if run is None else path / run, kind)
    spec = manifest["spec"]
    if spec["kind"] != kind or spec["version"] not in (version, *older):
        raise ArtifactError(
            f"{path} is {spec['kind']!r} version {spec['version']}, but this code reads "
            f"{kind!r} version {version}. Cure: run its stage again with this code"
        )
    found = storage.sizes(path / manifest["run"])
    for name, entry in manifest["files"].items():
        if found.get(name) != entry["bytes"]:
            raise ArtifactError(f"{path / manifest['run'] / name} is missing or truncated. Cure: run its stage again")
    return Artifact(path, manifest)


def current(path: Location | str, spec: Spec) -> Artifact | None:
    """The artefact at `path` if it was made to exactly `spec`, else None (the stage must run).

    Asked by the stage that would write it, so what a killed one left behind is collected here too.
    """
    try:
        artifact = open_artifact(path, spec.kind, spec.version)
    except ArtifactError:
        return None
    if artifact.manifest["spec"] != spec.as_json():
        return None
    _collect_unless_written(artifact)
    return artifact


@contextmanager
def create(path: Location | str, spec: Spec) -> Iterator[Draft]:
    """Write an artefact: files go into the draft, and become visible together when the block ends well.

    Raises ArtifactError at once when another process on this machine is writing a local artefact.
    """
    path, started, run = storage.locate(path), time.monotonic(), f"run={uuid.uuid4().hex[:12]}"
    with _draft(path, run) as draft:
        try:
            yield draft
            files = _finish(draft)
        except BaseException:
            with suppress(StorageError):  # what went wrong first is what matters
                storage.remove(draft.target)
            raise
        manifest = {
            "run": run,
            "previous": manifests.current_run(path),
            "spec": spec.as_json(),
            "files": files,
            "counts": draft.counts,
            "code": code_version(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(time.monotonic() - started, 3),
        }
        manifests.replace(path / run, manifest)  # kept beside the files, for `roll_back`
        manifests.replace(path, manifest)
        _collect(_orphans(path, manifest))


def roll_back(path: Location | str, kind: str, version: int, older: tuple[int, ...] = ()) -> Artifact:
    """Let the run before be the current one, in one step. Done twice, it changes nothing.

    Raises ArtifactError when there is no run before, or it is damaged, or another process is writing.
    """
    path = storage.locate(path)
    now = manifests.read(path, kind)
    if not now["previous"]:
        raise ArtifactError(f"{path} has no run before {now['run']}: nothing was published there before it")
    before = open_artifact(path, kind, version, older, run=now["previous"])
    before.verify()
    with _alone(path):
        if manifests.current_run(path) != now["run"]:
            raise ArtifactError(f"another run was published at {path} meanwhile. Cure: look, and decide again")
        manifests.replace(path, {**before.manifest, "previous": now["run"]})
    return before


@contextmanager
def _draft(path: Location, run: str) -> Iterator[Draft]:
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            (path / run).mkdir()
            yield Draft(path / run, path / run)
    else:
        with local_disk.scratch() as staging:
            yield Draft(staging, path / run)


@contextmanager
def _alone(path: Location) -> Iterator[None]:
    """Nobody else on this machine writes a local artefact meanwhile. Raises ArtifactError when somebody does."""
    if not isinstance(path, Path):
        yield
        return
    with local_disk.locked(path / local_disk.LOCK) as alone:
        if not alone:
            raise ArtifactError(f"{path} is being written by another process. Cure: wait for that to end")
        yield


def _finish(draft: Draft) -> dict[str, dict[str, Any]]:
    """Make all files of a draft durable where they belong, and list them for the manifest."""
    target = draft.target
    if isinstance(target, Path):
        for unfinished in list(target.rglob(".*")):  # by workers that died, and were replaced
            storage.remove(unfinished)
        for written in (target, *target.rglob("*")):
            local_disk.fsync(written)
    checksums = {name: file_digest(draft.dir / name) for name in storage.sizes(draft.dir)}
    if not isinstance(target, Path):
        storage.in_parallel(lambda name: storage.put(draft.dir / name, target / name), checksums)
    found = storage.sizes(target)
    parts = [name for name in found if name not in checksums]  # what workers wrote into the store themselves
    checksums.update(zip(parts, storage.in_parallel(lambda name: file_digest(target / name), parts), strict=True))
    return {name: {"bytes": size, "sha256": checksums[name]} for name, size in found.items()}


def _orphans(path: Location, manifest: dict[str, Any]) -> list[Location]:
    """What lies at `path` and is neither named by its manifest nor being written."""
    named = (manifest["run"], manifest.get("previous"))
    unnamed = [run for run in storage.subfolders(path, "run=") if run.name not in named]
    if isinstance(path, Path):
        return [*unnamed, *path.glob(f".{MANIFEST}.*")]
    return [run for run in unnamed if storage.untouched(run, ORPHAN_AGE)]


def _collect(orphans: list[Location]) -> None:
    for orphan in orphans:
        storage.remove(orphan)


def _collect_unless_written(artifact: Artifact) -> None:
    path, orphans = artifact.path, _orphans(artifact.path, artifact.manifest)
    if orphans and isinstance(path, Path):
        with local_disk.locked(path / local_disk.LOCK) as alone:
            # What another process published since is no orphan.
            if alone and manifests.current_run(path) == artifact.manifest["run"]:
                _collect(orphans)
    else:
        _collect(orphans)


@cache
def code_version() -> str:
    """The commit this code runs from, with `+changes` when the tree differs, or `unknown` outside git."""
    root = Path(__file__).resolve().parent.parent
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty=+changes", "--abbrev=12"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
