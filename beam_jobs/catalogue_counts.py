"""Beam job: the catalogue -> what each chunk of it counts: the values of every field and the joint masses of every two.

    prepared/catalogue_counts/chunks.json           the chunks of items and users, in their order
    prepared/catalogue_counts/item-<key>/           values.parquet, a row group per field; pairs.parquet, one per two
    prepared/catalogue_counts/user-<key>/           values.parquet

A chunk is a row group of items.parquet or users.parquet, named by its content: a catalogue that grows at its end
recounts its last chunk only. Values are numbered within the chunk, since the vocabularies come later.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs import blocks
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Draft, Spec, create, current, open_artifact
from pipeline.catalogue import MISSING
from pipeline.config import Config
from pipeline.errors import ArtifactError
from pipeline.storage import Location, remove, subfolders
from pipeline.tables import FieldSchema, Tables

KIND, VERSION = "catalogue_counts", 1
CHUNK_KIND, CHUNK_VERSION = "catalogue_chunk", 1
VALUES = pa.schema(
    [
        ("value", pa.string()),
        ("number", pa.float64()),
        ("count", pa.int64()),
        ("mass", pa.float64()),
    ]
)
PAIRS = pa.schema([("a", pa.int32()), ("b", pa.int32()), ("mass", pa.float64())])
SIDES = ("item", "user")

# ---- kernels


@dataclass(frozen=True)
class ValueSets:
    """The value sets of a chunk's rows in one field.

    codes: int64 [n], row after row, into `values` (strings, or float64 numbers with NaN as missing) [V];
    lengths: int64 [R], at least 1: a row without a value has the set {missing}.
    """

    codes: np.ndarray
    lengths: np.ndarray
    values: pa.Array | np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, kind: str) -> "ValueSets":
        """From a categorical, multi or numeric column of the catalogue. A list is a set; "" and null are missing."""
        if kind == "multi":
            return cls._of_lists(column)
        ones = np.ones(len(column), dtype=np.int64)
        if kind == "numeric":
            numbers, codes = np.unique(column.cast(pa.float64()).to_numpy(), return_inverse=True)
            return cls(codes.astype(np.int64), ones, numbers)
        encoded = pc.fill_null(column.cast(pa.string()), MISSING).combine_chunks().dictionary_encode()
        return cls(encoded.indices.to_numpy().astype(np.int64), ones, encoded.dictionary)

    @classmethod
    def _of_lists(cls, column: pa.ChunkedArray) -> "ValueSets":
        listed = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        row = np.repeat(np.arange(len(listed)), listed)
        flat = pc.fill_null(pc.list_flatten(column).cast(pa.string()), MISSING)
        encoded = pa.chunked_array([*flat.chunks, pa.array([MISSING])]).combine_chunks().dictionary_encode()
        codes, missing = encoded.indices.to_numpy()[:-1], encoded.indices[-1].as_py()
        row, codes = row[codes != missing], codes[codes != missing]
        empty = np.flatnonzero(np.bincount(row, minlength=len(listed)) == 0)
        row, codes = np.concatenate((row, empty)), np.concatenate((codes, np.full(len(empty), missing)))
        keys = blocks.distinct(row * len(encoded.dictionary) + codes)
        row, codes = np.divmod(keys, len(encoded.dictionary))
        return cls(codes, np.bincount(row, minlength=len(listed)), encoded.dictionary)

    @cached_property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def table(self) -> pa.Table:
        """The values (VALUES): how many rows carry each, and its mass, a row spreading 1 over its set."""
        size = len(self.values)
        mass = np.bincount(self.codes, np.repeat(1 / self.lengths, self.lengths), minlength=size)
        numeric = isinstance(self.values, np.ndarray)
        columns = [
            pa.nulls(size, pa.string()) if numeric else self.values,
            self.values if numeric else pa.nulls(size, pa.float64()),
            np.bincount(self.codes, minlength=size),
            mass,
        ]
        return pa.table(columns, schema=VALUES)


def joint_mass(a: ValueSets, b: ValueSets) -> pa.Table:
    """The mass of each pair of values of two fields (PAIRS): a row spreads 1 / (|A| |B|) over the pairs of its sets."""
    row = np.repeat(np.arange(len(a.lengths)), a.lengths)  # of each code of a, which meets all codes of b in its row
    width = b.lengths[row]
    ends = np.cumsum(width)
    left = np.repeat(a.codes, width)
    right = b.codes[np.arange(len(left)) + np.repeat(b.starts[row] - (ends - width), width)]
    pairs = np.repeat((a.lengths * b.lengths)[row], width)
    # Integers sort faster than masses, and come in a fixed order, so that equal sets add up to equal floats.
    keys, pairs = blocks.sorted_columns(left * len(b.values) + right, pairs)
    starts = blocks.run_starts(keys)
    mass = np.add.reduceat(1 / pairs, starts)
    codes_a, codes_b = np.divmod(keys[starts], len(b.values))
    return pa.table([codes_a.astype(np.int32), codes_b.astype(np.int32), mass], schema=PAIRS)


# ---- reading


@dataclass(frozen=True)
class Chunk:
    """One counted chunk; paths as text, for workers."""

    values_path: str
    pairs_path: str | None

    def values(self, field: int) -> pa.Table:
        """The values of one field (VALUES)."""
        return blocks.read_row_group((self.values_path, field))

    def log_sizes(self) -> list[float]:
        """The sum of ln |A| over the rows, by field."""
        return json.loads(blocks.footer(self.values_path).metadata[b"log_sizes"])

    def pairs(self, i: int, j: int, fields: int) -> pa.Table:
        """The joint masses of fields i < j of `fields`."""
        assert self.pairs_path is not None
        return blocks.read_row_group((self.pairs_path, pair_number(i, j, fields)))


def pair_number(i: int, j: int, fields: int) -> int:
    """The place of (i, j), i < j, among itertools.combinations(range(fields), 2)."""
    return i * fields - i * (i + 1) // 2 + j - i - 1


def read_chunks(config: Config) -> tuple[Artifact, dict[str, list[Chunk]]]:
    """The artefact and its chunks by side, in their order. Raises ArtifactError."""
    folder = config.prepared_dir(KIND)
    artifact = open_artifact(folder, KIND, VERSION)
    listed = json.loads(artifact.file("chunks.json").read_text(encoding="utf-8"))
    return artifact, {side: [_read_chunk(folder / name) for name in listed[side]] for side in SIDES}


def _read_chunk(path: Location) -> Chunk:
    artifact = open_artifact(path, CHUNK_KIND, CHUNK_VERSION)
    has_pairs = "pairs.parquet" in artifact.manifest["files"]
    return Chunk(
        str(artifact.location("values.parquet")), str(artifact.location("pairs.parquet")) if has_pairs else None
    )


def counted_fields(fields: Sequence[FieldSchema]) -> list[FieldSchema]:
    """The fields that have countable values: all but titles."""
    return [field for field in fields if field.kind != "title"]


# ---- Beam


class CountChunk(beam.DoFn):
    """(side, path, row group, folder) -> values.parquet and, of items, pairs.parquet in the folder."""

    def __init__(self, fields: dict[str, list[FieldSchema]]) -> None:
        self.fields = fields

    def process(self, element: tuple[str, str, int, str]) -> None:
        side, path, row_group, folder = element
        fields, table = self.fields[side], blocks.read_row_group((path, row_group))
        count(f"{side}s", len(table))
        sets = [ValueSets.of(table[field.name], field.kind) for field in fields]
        count("values", sum(len(each.values) for each in sets))
        if side == "item" and len(fields) > 1:
            blocks.write_part(f"{folder}/pairs.parquet", lambda aside: _write_pairs(sets, aside))
        blocks.write_part(f"{folder}/values.parquet", lambda aside: _write_values(sets, aside))


def _write_values(sets: list[ValueSets], path: str) -> None:
    sizes = {"log_sizes": json.dumps([float(np.log(each.lengths).sum()) for each in sets])}
    with pq.ParquetWriter(path, VALUES.with_metadata(sizes), compression="zstd") as writer:
        for each in sets:
            table = each.table()
            writer.write_table(table.replace_schema_metadata(sizes), row_group_size=max(1, len(table)))


def _write_pairs(sets: list[ValueSets], path: str) -> None:
    with pq.ParquetWriter(path, PAIRS, compression="zstd", use_dictionary=False) as writer:
        for a, b in combinations(sets, 2):
            joint = joint_mass(a, b)
            count("value_pairs", len(joint))
            writer.write_table(joint, row_group_size=max(1, len(joint)))


# ---- the stage


def _chunk_key(path: Path, row_group: int) -> str:
    """The content of a row group: a checksum of its bytes in the file."""
    columns = [blocks.footer(path).row_group(row_group).column(i) for i in range(blocks.footer(path).num_columns)]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for column in columns:
            start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            stream.seek(start)
            digest.update(f"{column.path_in_schema}:".encode() + stream.read(column.total_compressed_size))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Planned:
    """A chunk of the present catalogue and the artefact it belongs to."""

    side: str
    source: tuple[str, int]
    path: Location
    spec: Spec

    @property
    def name(self) -> str:
        return self.path.name


def _plan(config: Config, tables: Tables, fields: dict[str, list[FieldSchema]]) -> list[_Planned]:
    planned = []
    for side in SIDES:
        kinds = [[field.name, field.kind] for field in fields[side]]
        local, location = tables.artifact.file(f"{side}s.parquet"), tables.artifact.location(f"{side}s.parquet")
        for row_group in range(blocks.footer(local).num_row_groups):
            key = _chunk_key(local, row_group)
            name = f"{side}-{hashlib.sha256(json.dumps([key, kinds]).encode()).hexdigest()[:16]}"
            spec = Spec(CHUNK_KIND, CHUNK_VERSION, inputs={"rows": key}, config={"fields": kinds})
            planned.append(_Planned(side, (str(location), row_group), config.prepared_dir(KIND) / name, spec))
    return planned


def _count(planned: list[_Planned], fields: dict[str, list[FieldSchema]], pipeline_args: Sequence[str]) -> dict:
    with ExitStack() as stack:
        drafts: list[Draft] = [stack.enter_context(create(chunk.path, chunk.spec)) for chunk in planned]
        elements = [
            (chunk.side, *chunk.source, str(draft.target)) for chunk, draft in zip(planned, drafts, strict=True)
        ]
        with progress(KIND, [draft.target for draft in drafts], "values.parquet", len(planned)):
            return run_pipeline(
                lambda pipeline: (
                    pipeline | "chunks" >> beam.Create(elements) | beam.Reshuffle() | beam.ParDo(CountChunk(fields))
                ),
                pipeline_args,
            )


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Count the chunks of the catalogue that are new, then list them all, unless the list is current."""
    tables = Tables.read(config.tables_dir)
    fields = dict(zip(SIDES, map(counted_fields, (tables.schema.item_fields, tables.schema.user_fields)), strict=True))
    planned = _plan(config, tables, fields)
    new = {chunk.name: chunk for chunk in planned if current(chunk.path, chunk.spec) is None}
    counts = _count(list(new.values()), fields, pipeline_args) if new else {}
    listed = {side: [chunk.name for chunk in planned if chunk.side == side] for side in SIDES}
    path, spec = config.prepared_dir(KIND), Spec(KIND, VERSION, config=listed)
    if artifact := current(path, spec):
        return artifact
    kept = {chunk.name for chunk in planned} | set(_listed_before(path))
    with create(path, spec) as draft:
        (draft.dir / "chunks.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")
        draft.counts |= {"chunks": len(planned), "chunks_counted": len(new), **counts}
    for side in SIDES:
        for folder in subfolders(path, f"{side}-"):
            if folder.name not in kept:
                remove(folder)
    return open_artifact(path, KIND, VERSION)


def _listed_before(path: Location) -> list[str]:
    try:
        return [name for names in open_artifact(path, KIND, VERSION).config.values() for name in names]
    except ArtifactError:
        return []


if __name__ == "__main__":
    sys.exit(main(run))
