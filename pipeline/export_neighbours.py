"""Each item's neighbours by sessions and by titles: the artefacts of `prepare` -> the lists of a bundle."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import manifest
from pipeline.artifacts import Artifact, open_artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError
from pipeline.vocabulary import Vocabulary
from serving.neighbours import file_names

JOBS = {"session": ("session_cooccurrence", 1), "title": ("title_neighbours", 2)}
"""The artefact of each kind of neighbours, and its version."""
Lists = tuple[np.ndarray, np.ndarray]
"""Items int32 [R, T], best first, 0 where there are fewer; scores float32 [R, T]. Row i is item index i + 1."""


def open_lists(config: Config, sequences: Artifact) -> dict[str, Artifact]:
    """The artefacts that are there, by kind; a bundle does without those that `prepare` was not asked for.

    sequences: the user sequences of the bundle.
    Raises ArtifactError for one that is damaged, of another version, or made of other sequences.
    """
    found = {}
    for kind, (job, version) in JOBS.items():
        path = config.prepared_dir(job)
        if manifest.current_run(path) is not None:
            found[kind] = open_artifact(path, job, version)
    if "session" in found:
        inputs = found["session"].manifest["spec"]["inputs"]
        _check(found["session"], inputs["user_sequences"] == sequences.fingerprint)
    return found


def write_lists(lists: Mapping[str, Artifact], items: Vocabulary, most: int, directory: Path) -> list[str]:
    """Write the `most` best neighbours of each item of the vocabulary, for each kind; return the kinds.

    Raises ArtifactError for titles of other items than these.
    """
    for kind, artifact in lists.items():
        read = session_lists if kind == "session" else title_lists
        found = read(artifact, items, most)
        for name, array in zip(file_names(kind), found, strict=True):
            np.save(directory / name, array)
    return sorted(lists)


def session_lists(artifact: Artifact, items: Vocabulary, most: int) -> Lists:
    """From session_cooccurrence; a score is the number of sessions shared, weighed as there."""
    shape = items.size - 1, most
    neighbours, scores = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for part in artifact.parts("part-"):
        table = pq.read_table(part)
        lists, weights = table["neighbours"].combine_chunks(), table["weights"].combine_chunks()
        lengths = lists.value_lengths().to_numpy()
        places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = places < most
        rows = np.repeat(table["item"].to_numpy() - 1, lengths)[kept]
        neighbours[rows, places[kept]] = lists.flatten().to_numpy()[kept]
        scores[rows, places[kept]] = weights.flatten().to_numpy()[kept]
    return neighbours, scores


def title_lists(artifact: Artifact, items: Vocabulary, most: int) -> Lists:
    """From title_neighbours; a score is the cosine of two title embeddings. Raises ArtifactError."""
    table = pa.concat_tables([pq.read_table(part) for part in artifact.parts("part-")])
    _check(artifact, table["item_id"][1:].combine_chunks().cast(pa.string()).equals(items.values.cast(pa.string())))
    kept = artifact.config["neighbours"]
    columns = [table[name].combine_chunks().flatten().to_numpy() for name in ("neighbours", "scores")]
    # (R + 1) * kept -> [R, most]; the first row is the unknown item's
    neighbours, scores = (column.reshape(-1, kept)[1:, :most] for column in columns)
    return neighbours.astype(np.int32), scores.astype(np.float32)


def _check(artifact: Artifact, same: bool) -> None:
    if not same:
        raise ArtifactError(f"{artifact.path} was made for another vocabulary. Cure: twotower prepare")
