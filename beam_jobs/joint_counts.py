"""Beam job: the coded chunks of the catalogue -> the joint masses of every two item fields, chunk by chunk.

    prepared/joint_counts/chunks.json         the chunks of items, in their order
    prepared/joint_counts/item-<key>/         pairs.arrow: a batch per two fields

A chunk of the catalogue is counted once (beam_jobs/catalogue_counts.py says what a chunk is). Only the mutual
information reads these counts, which is why they are a job of their own.
"""

import sys
from collections.abc import Sequence
from itertools import combinations

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs import blocks
from beam_jobs.batch_files import read_batch, write_batches
from beam_jobs.catalogue_counts import KIND as CATALOGUE
from beam_jobs.catalogue_counts import CodedSets, read_chunks, read_sets
from beam_jobs.chunks import Chunk, make_chunks, open_chunks
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Draft, Spec
from pipeline.config import Config
from pipeline.storage import Location

KIND, VERSION = "joint_counts", 1
CHUNK_KIND, CHUNK_VERSION = "joint_chunk", 1
PAIRS = pa.schema([("a", pa.int32()), ("b", pa.int32()), ("mass", pa.float64())])

# ---- kernels


def joint_mass(a: CodedSets, b: CodedSets) -> pa.Table:
    """The mass of each pair of values of two fields (PAIRS): a row spreads 1 / (|A| |B|) over the pairs of its sets."""
    keys, pairs = _paired(a, b)
    mass: np.ndarray
    if a.size * b.size <= len(keys):  # so few that a table of all pairs is smaller than the rows
        mass = np.bincount(keys, None if pairs is None else 1 / pairs, minlength=a.size * b.size)
        keys = np.flatnonzero(mass)
        mass = mass[keys]
    elif pairs is None:
        keys, mass = blocks.sum_by_key(keys)
    else:
        # Integers sort faster than masses, and come in a fixed order.
        keys, pairs = blocks.sorted_columns(keys, pairs)
        starts = blocks.run_starts(keys)
        mass = np.add.reduceat(1 / pairs, starts) if len(keys) else np.zeros(0)
        keys = keys[starts]
    codes_a, codes_b = np.divmod(keys, b.size)
    return pa.table([codes_a.astype(np.int32), codes_b.astype(np.int32), mass.astype(np.float64)], schema=PAIRS)


def _paired(a: CodedSets, b: CodedSets) -> tuple[np.ndarray, np.ndarray | None]:
    """Every pair of values of every row, as code of a * b.size + code of b, and |A| |B| of its row (None: all 1)."""
    rows = len(a.lengths)
    if len(a.codes) == len(b.codes) == rows:
        return a.codes * b.size + b.codes, None
    if len(b.codes) == rows:
        return a.codes * b.size + np.repeat(b.codes, a.lengths), np.repeat(a.lengths, a.lengths)
    if len(a.codes) == rows:
        return np.repeat(a.codes * b.size, b.lengths) + b.codes, np.repeat(b.lengths, b.lengths)
    row = np.repeat(np.arange(rows), a.lengths)  # of each code of a, which meets all codes of b in its row
    width = b.lengths[row]
    ends = np.cumsum(width)
    starts = np.cumsum(b.lengths) - b.lengths
    left = np.repeat(a.codes * b.size, width)
    right = b.codes[np.arange(len(left)) + np.repeat(starts[row] - (ends - width), width)]
    return left + right, np.repeat((a.lengths * b.lengths)[row], width)


# ---- reading


def pair_number(i: int, j: int, fields: int) -> int:
    """The place of (i, j), i < j, among itertools.combinations(range(fields), 2)."""
    return i * fields - i * (i + 1) // 2 + j - i - 1


def read_pairs(path: str, i: int, j: int, fields: int) -> pa.Table:
    """The joint masses (PAIRS) of fields i < j of `fields`."""
    return read_batch(path, pair_number(i, j, fields))


def read_chunks_of_pairs(config: Config) -> tuple[Artifact, list[str]]:
    """The artefact and the file of each chunk of items, in their order. Raises ArtifactError."""
    artifact, chunks = open_chunks(config.prepared_dir(KIND), (KIND, VERSION), (CHUNK_KIND, CHUNK_VERSION))
    return artifact, [str(chunk.location("pairs.arrow")) for chunk in chunks["item"]]


# ---- Beam


def count_pairs(element: tuple[str, str]) -> None:
    """(codes of a chunk, folder) -> pairs.arrow in the folder."""
    codes_path, folder = element
    joint = [joint_mass(a, b) for a, b in combinations(read_sets(codes_path), 2)]
    count("value_pairs", sum(map(len, joint)))
    blocks.write_part(f"{folder}/pairs.arrow", lambda aside: write_batches(aside, PAIRS, joint, {}))


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Count the pairs of the chunks of items that are new. Needs the counted catalogue."""
    _, counted = read_chunks(config)
    chunks = []
    for chunk in counted["item"]:
        spec = Spec(CHUNK_KIND, CHUNK_VERSION, inputs={CATALOGUE: chunk.fingerprint})
        chunks.append(Chunk(f"item-{chunk.fingerprint[:16]}", spec, chunk.codes_path))

    def count_chunks(new: Sequence[tuple[Chunk, Draft]]) -> dict[str, int]:
        targets: list[Location] = [draft.target for _, draft in new]
        elements = [(chunk.source, str(target)) for (chunk, _), target in zip(new, targets, strict=True)]
        with progress(KIND, targets, "pairs.arrow", len(new)):
            return run_pipeline(
                lambda pipeline: pipeline | "chunks" >> beam.Create(elements) | beam.Map(count_pairs),
                pipeline_args,
            )

    return make_chunks(config.prepared_dir(KIND), (KIND, VERSION), chunks, count_chunks)


if __name__ == "__main__":
    sys.exit(main(run))
