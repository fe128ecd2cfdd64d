"""Chunks of the catalogue: each an artefact named by its content, made once; a list says which there are now.

prepared/<kind>/chunks.json   the names of the chunks of items and users, in their order
prepared/<kind>/<name>/       one chunk
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts import Artifact, Draft, Spec, create, current, open_artifact
from pipeline.errors import ArtifactError
from pipeline.storage import Location, remove, subfolders

LIST = "chunks.json"
SIDES = ("item", "user")


@dataclass(frozen=True)
class Chunk:
    """A chunk as it is to be: a side's, under a name (which begins with the side), from `source`."""

    name: str
    spec: Spec
    source: Any


def make_chunks(
    folder: Location,
    listing: tuple[str, int],
    chunks: Sequence[Chunk],
    make: Callable[[Sequence[tuple[Chunk, Draft]]], dict[str, int]],
) -> Artifact:
    """Make the chunks in `folder` that are not there, then list them all, unless the list is current.

    listing: kind and version of the list. make: writes the drafts of chunks and returns what it counted.
    """
    new = [chunk for chunk in {c.name: c for c in chunks}.values() if current(folder / chunk.name, chunk.spec) is None]
    counts = {}
    if new:
        with ExitStack() as stack:
            counts = make([(chunk, stack.enter_context(create(folder / chunk.name, chunk.spec))) for chunk in new])
    listed = {side: [chunk.name for chunk in chunks if chunk.name.startswith(f"{side}-")] for side in SIDES}
    spec = Spec(*listing, config=listed)
    if artifact := current(folder, spec):
        return artifact
    kept = {chunk.name for chunk in chunks} | set(_listed_before(folder, listing))
    with create(folder, spec) as draft:
        (draft.dir / LIST).write_text(json.dumps(listed, indent=1), encoding="utf-8")
        draft.counts |= {"chunks": len(chunks), "chunks_counted": len(new), **counts}
    for side in SIDES:
        for chunk in subfolders(folder, f"{side}-"):
            if chunk.name not in kept:
                remove(chunk)
    return open_artifact(folder, *listing)


def _listed_before(folder: Location, listing: tuple[str, int]) -> list[str]:
    """The chunks of the list before, which whoever opened that may still read."""
    try:
        return [name for names in open_artifact(folder, *listing).config.values() for name in names]
    except ArtifactError:
        return []


def open_chunks(
    folder: Location, listing: tuple[str, int], chunk: tuple[str, int]
) -> tuple[Artifact, dict[str, list[Artifact]]]:
    """The list and its chunks by side, in their order. listing, chunk: kinds and versions. Raises ArtifactError."""
    artifact = open_artifact(folder, *listing)
    listed = json.loads(artifact.file(LIST).read_text(encoding="utf-8"))
    return artifact, {side: [open_artifact(folder / name, *chunk) for name in listed[side]] for side in SIDES}
