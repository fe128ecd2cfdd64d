"""MANIFEST.json: which run of an artefact is current, its files, and what it was made from."""

import json
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, Field, NonNegativeInt, field_validator

from pipeline import storage
from pipeline.errors import ArtifactError
from pipeline.storage import Location

MANIFEST = "MANIFEST.json"
WRITTEN_BY = {"tables": "import", "window_events": "prepare", "vocabularies": "prepare", "user_sequences": "prepare"}
WRITTEN_BY |= {"model": "train", "checkpoint": "train", "evaluation": "evaluate", "bundle": "export"}
"""The command that writes each kind of artefact a reader may miss first."""


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
    previous: str | None = None
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


def read(path: Location, kind: str) -> dict[str, Any]:
    """The manifest of the artefact at `path`. Raises ArtifactError when it is missing or damaged."""
    try:
        manifest = json.loads(storage.read_text(path / MANIFEST))
        _Manifest.model_validate(manifest, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        cure = f"twotower {WRITTEN_BY[kind]}" if kind in WRITTEN_BY else "run the stage that writes it"
        raise ArtifactError(f"no {kind} artefact at {path}. Cure: {cure}") from None
    except ValueError as error:  # not UTF-8, not JSON, or not a manifest
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path / MANIFEST} is damaged ({reason}). Cure: run its stage again") from None
    return manifest


def current_run(path: Location) -> str | None:
    """The run that the manifest at `path` names, if there is one, however damaged the rest of it."""
    try:
        return json.loads(storage.read_text(path / MANIFEST))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def replace(path: Location, manifest: dict[str, Any]) -> None:
    """Let all readers from now on see this manifest, in one step. Raises StorageError."""
    storage.replace_text(path / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
