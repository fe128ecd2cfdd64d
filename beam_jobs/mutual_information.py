"""Beam job: the counted catalogue and its pairs -> the mutual information of every two item fields (CFM, eq. 4).

Over the item corpus, where each item weighs 1: an item with the value sets A and B spreads mass 1 / (|A| |B|)
over their pairs. Natural logarithm. Numeric fields count by bucket, a missing value is a value of its own, and values
that the vocabulary leaves out (`prepare.min_value_count`) count together as one.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.utils.shared import Shared

from beam_jobs import blocks
from beam_jobs.catalogue_counts import CountedChunk, counted_fields, read_chunks
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.joint_counts import KIND as JOINT
from beam_jobs.joint_counts import read_chunks_of_pairs, read_pairs
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import MISSING, NUMERIC_FILE, Vocabularies, encode_numeric
from pipeline.config import Config
from pipeline.storage import Location
from pipeline.tables import FieldSchema, Tables

KIND, VERSION = "mutual_information", 1

# ---- kernels


def entropy(mass: np.ndarray) -> float:
    """H = - sum p log p of the masses of some values."""
    p = mass[mass > 0] / mass.sum()
    return max(0.0, float(-(p * np.log(p)).sum()))


def mutual_information(keys: np.ndarray, mass: np.ndarray, size_b: int) -> float:
    """MI = sum p(a, b) log(p(a, b) / (p(a) p(b))) (CFM, eq. 4) = H(a) + H(b) - H(a, b).

    keys: a * size_b + b, distinct; mass: float64, positive.
    """
    _, mass_a = blocks.sum_by_key(keys // size_b, mass)
    _, mass_b = blocks.sum_by_key(keys % size_b, mass)
    return max(0.0, entropy(mass_a) + entropy(mass_b) - entropy(mass))


def information_matrix(entries: dict[tuple[int, int], float], log_sizes: Sequence[float], items: int) -> np.ndarray:
    """The symmetric matrix, float64 [F + 1, F + 1], entropies on its diagonal, the id as field 0.

    entries: (j, j) the entropy of field j = 0, 1, ..., and (i, j), i < j, the MI of two; log_sizes: the sum of ln |A_j|
    over items. The id needs no counting: each value is one item's own, so that MI(id, f) = H(f) - E[ln |A_f|], which
    is H(f) where f has a single value.
    """
    matrix = np.zeros((len(log_sizes) + 1, len(log_sizes) + 1))
    matrix[0, 0] = math.log(items)
    for (i, j), value in entries.items():
        matrix[i + 1, j + 1] = matrix[j + 1, i + 1] = value
        if i == j:
            matrix[0, j + 1] = matrix[j + 1, 0] = max(0.0, value - log_sizes[j] / items)
    return matrix


# ---- Beam


@dataclass(frozen=True)
class CodedChunks:
    """The chunks with their values as indices of the vocabularies.

    pairs: by chunk, the file of its joint masses. codes: by chunk and field, int64 [V], the index of each value of the
    chunk; masses: likewise, float64 [V]. missing, sizes: by field, the index of the missing value, and the number of
    indices.
    """

    pairs: tuple[str, ...]
    codes: tuple[tuple[np.ndarray, ...], ...]
    masses: tuple[tuple[np.ndarray, ...], ...]
    missing: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def read(
        cls, chunks: Sequence[CountedChunk], pairs: Sequence[str], fields: Sequence[FieldSchema], known: Vocabularies
    ) -> "CodedChunks":
        by_field = [[chunk.values(j) for j in range(len(fields))] for chunk in chunks]
        return cls(
            tuple(pairs),
            tuple(tuple(map(_encode, each, fields, [known] * len(fields))) for each in by_field),
            tuple(tuple(values["mass"].to_numpy() for values in each) for each in by_field),
            tuple(_missing(field, known) for field in fields),
            tuple(_size(field, known) for field in fields),
        )

    def masses_of(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """(indices, masses) of one field, a chunk after the other."""
        codes = [each[j] for each in self.codes]
        return np.concatenate(codes), np.concatenate([each[j] for each in self.masses])

    def joint(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """(index_i * size_j + index_j, masses) of two fields, a chunk after the other."""
        keys, masses = [np.zeros(0, np.int64)], [np.zeros(0)]
        for path, codes in zip(self.pairs, self.codes, strict=True):
            table = read_pairs(path, i, j, len(self.sizes))
            keys.append(codes[i][table["a"].to_numpy()] * self.sizes[j] + codes[j][table["b"].to_numpy()])
            masses.append(table["mass"].to_numpy())
        return np.concatenate(keys), np.concatenate(masses)


def _encode(values: pa.Table, field: FieldSchema, known: Vocabularies) -> np.ndarray:
    if field.kind == "numeric":
        return encode_numeric(values["number"], known.boundaries[f"item.{field.name}"]).astype(np.int64)
    return known.item_fields[field.name].encode(values["value"]).astype(np.int64)


def _missing(field: FieldSchema, known: Vocabularies) -> int:
    if field.kind == "numeric":
        return len(known.boundaries[f"item.{field.name}"]) + 2
    return known.item_fields[field.name].index(MISSING)


def _size(field: FieldSchema, known: Vocabularies) -> int:
    return _missing(field, known) + 1 if field.kind == "numeric" else known.item_fields[field.name].size


class Inform(beam.DoFn):
    """(i, j) -> ((i, j), the entropy of field i = j, or the mutual information of two)."""

    def __init__(
        self,
        vocabularies: Location,
        fields: Sequence[FieldSchema],
        chunks: Sequence[CountedChunk],
        pairs: Sequence[str],
        outside: int,
    ) -> None:
        self.vocabularies, self.fields, self.outside = str(vocabularies), list(fields), outside
        self.chunks, self.pairs = chunks, pairs
        self.shared = Shared()

    def setup(self) -> None:
        self.coded = self.shared.acquire(self._read)  # one copy for all threads of a worker

    def _read(self) -> CodedChunks:
        return CodedChunks.read(self.chunks, self.pairs, self.fields, Vocabularies.read(self.vocabularies))

    def process(self, pair: tuple[int, int]) -> Iterator[tuple[tuple[int, int], float]]:
        i, j = pair
        coded, size = self.coded, self.coded.sizes[j]
        codes, mass = coded.masses_of(j) if i == j else coded.joint(i, j)
        # Items outside the catalogue: every value is missing.
        nothing = coded.missing[j] if i == j else coded.missing[i] * size + coded.missing[j]
        codes, mass = np.append(codes, nothing), np.append(mass, float(self.outside))
        keys, mass = blocks.sum_by_key(codes, mass)
        keys, mass = keys[mass > 0], mass[mass > 0]
        count("values" if i == j else "value_pairs", len(keys))
        yield pair, entropy(mass) if i == j else mutual_information(keys, mass, size)


def write_matrix(
    _: None, entries: dict[tuple[int, int], float], names: list[str], log_sizes: list[float], items: int, path: str
) -> None:
    """Write mutual_information.json."""
    matrix = information_matrix(entries, log_sizes, items).tolist()
    text = json.dumps({"fields": names, "matrix": matrix})
    blocks.write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the mutual information unless it is current. Needs the joint counts and the vocabularies."""
    tables, (catalogue, chunks) = Tables.read(config.tables_dir), read_chunks(config)
    joint, pairs_of_chunks = read_chunks_of_pairs(config)
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    fields, items = counted_fields(tables.schema.item_fields), known.artifact.counts["items"]
    outside = items - tables.artifact.counts["items"]
    path, spec = config.prepared_dir(KIND), _spec(catalogue, joint, known.artifact, outside)
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        log_sizes = [sum(column) for column in zip(*(chunk.log_sizes() for chunk in chunks["item"]), strict=True)] or [
            0.0
        ] * len(fields)
        names = ["item_id", *(f.name for f in fields)]
        inform = beam.ParDo(Inform(known.artifact.path, fields, chunks["item"], pairs_of_chunks, outside))
        pairs = list(combinations_with_replacement(range(len(fields)), 2))

        def build(pipeline: beam.Pipeline) -> None:
            entries = pipeline | "pairs" >> beam.Create(pairs) | inform
            once, path = pipeline | "once" >> beam.Create([None]), str(draft.target / "mutual_information.json")
            once | "write" >> beam.Map(write_matrix, pvalue.AsDict(entries), names, log_sizes, items, path)

        with progress(KIND, [draft.target], "*.json", 1):
            draft.counts.update({"items": items, **run_pipeline(build, pipeline_args)})
    return open_artifact(path, KIND, VERSION)


def _spec(catalogue: Artifact, joint: Artifact, vocabularies: Artifact, outside: int) -> Spec:
    fields = [path.name for path in vocabularies.parts("item.")]
    return Spec(
        KIND,
        VERSION,
        inputs={
            "catalogue_counts": catalogue.fingerprint,
            JOINT: joint.fingerprint,
            **{name: vocabularies.checksum(name) for name in (*fields, NUMERIC_FILE)},
        },
        config={"items_outside_catalogue": outside},
    )


if __name__ == "__main__":
    sys.exit(main(run))
