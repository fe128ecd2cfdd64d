"""Beam job: the counted catalogue and its pairs -> the mutual information of every two item fields (CFM, eq. 4).

Over the item corpus, where each item weighs 1: an item with the value sets A and B spreads mass 1 / (|A| |B|)
over their pairs. Natural logarithm. Numeric fields count by bucket, a missing value is a value of its own, and values
that the vocabulary leaves out (`prepare.min_value_count`) count together as one.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.utils.shared import Shared

from beam_jobs import blocks
from beam_jobs.catalogue_counts import CountedChunk, counted_fields, read_chunks
from beam_jobs.job import main, progress, run_pipeline
from beam_jobs.joint_counts import KIND as JOINT
from beam_jobs.joint_counts import read_chunks_of_pairs, read_pairs
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.catalogue import MISSING, NUMERIC_FILE, Vocabularies, encode_numeric
from pipeline.config import Config
from pipeline.errors import ArtifactError
from pipeline.storage import Location
from pipeline.tables import FieldSchema, Tables

KIND, VERSION = "mutual_information", 1
SUMS = "sums.json"

# ---- kernels


@dataclass(frozen=True)
class MassSums:
    """What the entropy of some masses is computed from, whatever is added to the mass of the missing value.

    values: how many masses there are; mass_log_mass: the sum of m ln m; missing: the mass of the missing value, or of
    both fields missing, 0 where no item lacks them.
    """

    values: int
    mass_log_mass: float
    missing: float

    @classmethod
    def of(cls, keys: np.ndarray, mass: np.ndarray, missing: int) -> "MassSums":
        """keys: int64 [n], >= 0, repeated ones add up; mass: float64 [n]; missing: the missing value's key."""
        keys, mass = blocks.sum_by_key(keys[mass > 0], mass[mass > 0])
        return cls(len(keys), float((mass * np.log(mass)).sum()), float(mass[keys == missing].sum()))

    def values_with(self, outside: int) -> int:
        """How many masses there are when `outside` more items have the missing value."""
        return self.values + (outside > 0 and self.missing == 0)

    def entropy(self, items: int, outside: int) -> float:
        """H = - sum p ln p = ln T - (sum m ln m) / T of the masses of `items` + `outside` = T items."""
        total = items + outside
        moved = _mass_log_mass(self.missing + outside) - _mass_log_mass(self.missing)
        return max(0.0, math.log(total) - (self.mass_log_mass + moved) / total)


def _mass_log_mass(mass: float) -> float:
    return mass * math.log(mass) if mass > 0 else 0.0


Sums = dict[tuple[int, int], MassSums]
"""By fields: (j, j) of the values of field j, (i, j), i < j, of the pairs of values of two."""


def information(sums: Sums, items: int, outside: int) -> dict[tuple[int, int], float]:
    """The entropy of field j under (j, j), the mutual information of two under (i, j).

    MI = sum p(a, b) ln(p(a, b) / (p(a) p(b))) (CFM, eq. 4) = H(a) + H(b) - H(a, b).
    """
    entropies = {fields: each.entropy(items, outside) for fields, each in sums.items()}
    return {
        (i, j): joint if i == j else max(0.0, entropies[i, i] + entropies[j, j] - joint)
        for (i, j), joint in entropies.items()
    }


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


class AddUp(beam.DoFn):
    """(i, j) -> ((i, j), the sums of field i = j, or of the pairs of two)."""

    def __init__(
        self,
        vocabularies: Location,
        fields: Sequence[FieldSchema],
        chunks: Sequence[CountedChunk],
        pairs: Sequence[str],
    ) -> None:
        self.vocabularies, self.fields = str(vocabularies), list(fields)
        self.chunks, self.pairs = chunks, pairs
        self.shared = Shared()

    def setup(self) -> None:
        self.coded = self.shared.acquire(self._read)  # one copy for all threads of a worker

    def _read(self) -> CodedChunks:
        return CodedChunks.read(self.chunks, self.pairs, self.fields, Vocabularies.read(self.vocabularies))

    def process(self, pair: tuple[int, int]) -> Iterator[tuple[tuple[int, int], MassSums]]:
        i, j = pair
        coded, size = self.coded, self.coded.sizes[j]
        keys, mass = coded.masses_of(j) if i == j else coded.joint(i, j)
        missing = coded.missing[j] if i == j else coded.missing[i] * size + coded.missing[j]
        yield pair, MassSums.of(keys, mass, missing)


def write_sums(_: None, sums: Sums, path: str) -> None:
    """Write sums.json."""
    text = json.dumps([[*pair, *astuple(sums[pair])] for pair in sorted(sums)])
    blocks.write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


def read_sums(path: Location) -> Sums:
    """Read sums.json."""
    return {(i, j): MassSums(*each) for i, j, *each in json.loads(path.read_text(encoding="utf-8"))}


def _sums_before(path: Location, spec: Spec) -> Location | None:
    """The sums of the run that is current, if they are of the same catalogue and vocabularies."""
    try:
        before = open_artifact(path, KIND, VERSION)
        return before.location(SUMS) if before.manifest["spec"]["inputs"] == spec.inputs else None
    except ArtifactError:
        return None


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the mutual information unless it is current. Needs the joint counts and the vocabularies."""
    tables, (catalogue, chunks) = Tables.read(config.tables_dir), read_chunks(config)
    joint, pairs_of_chunks = read_chunks_of_pairs(config)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies")).artifact
    fields, items = counted_fields(tables.schema.item_fields), tables.artifact.counts["items"]
    outside = vocabularies.counts["items"] - items
    path, spec = config.prepared_dir(KIND), _spec(catalogue, joint, vocabularies, outside)
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        if before := _sums_before(path, spec):
            (draft.dir / SUMS).write_bytes(before.read_bytes())
            sums = read_sums(draft.dir / SUMS)
        else:
            add_up = beam.ParDo(AddUp(vocabularies.path, fields, chunks["item"], pairs_of_chunks))
            with progress(KIND, [draft.target], SUMS, 1):
                run_pipeline(lambda pipeline: _build(pipeline, len(fields), add_up, draft.target / SUMS), pipeline_args)
            sums = read_sums(draft.target / SUMS)
        log_sizes = np.sum([chunk.log_sizes() for chunk in chunks["item"]] or np.zeros((1, len(fields))), axis=0)
        matrix = information_matrix(information(sums, items, outside), log_sizes.tolist(), items + outside)
        written = {"fields": ["item_id", *(field.name for field in fields)], "matrix": matrix.tolist()}
        (draft.dir / "mutual_information.json").write_text(json.dumps(written), encoding="utf-8")
        draft.counts |= {"items": items + outside, **_counts(sums, outside)}
    return open_artifact(path, KIND, VERSION)


def _build(pipeline: beam.Pipeline, fields: int, add_up: beam.ParDo, path: Location) -> None:
    pairs = list(combinations_with_replacement(range(fields), 2))
    sums = pipeline | "pairs" >> beam.Create(pairs) | add_up
    pipeline | "once" >> beam.Create([None]) | "write" >> beam.Map(write_sums, pvalue.AsDict(sums), str(path))


def _counts(sums: Sums, outside: int) -> dict[str, int]:
    counts = {"values": 0, "value_pairs": 0}
    for (i, j), each in sums.items():
        counts["values" if i == j else "value_pairs"] += each.values_with(outside)
    return counts


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
