"""Beam job: the catalogue -> what each chunk of it holds: the values of every field, counted, and its rows as codes.

    prepared/catalogue_counts/chunks.json           the chunks of items and users, in their order
    prepared/catalogue_counts/item-<key>/           values.arrow and codes.arrow, a batch per field
    prepared/catalogue_counts/user-<key>/           values.arrow

A chunk is a row group of items.parquet or users.parquet, named by its content: a catalogue that grows at its end
recounts its last chunk only. Values are numbered within the chunk, since the vocabularies come later.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs import blocks
from beam_jobs.batch_files import metadata, read_batch, write_batches
from beam_jobs.chunks import SIDES, Chunk, make_chunks, open_chunks
from beam_jobs.job import count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Draft, Spec
from pipeline.catalogue import MISSING
from pipeline.config import Config
from pipeline.storage import Location
from pipeline.tables import FieldSchema, Tables

KIND, VERSION = "catalogue_counts", 2
CHUNK_KIND, CHUNK_VERSION = "catalogue_chunk", 2
VALUES = pa.schema(
    [
        ("value", pa.string()),
        ("number", pa.float64()),
        ("count", pa.int64()),
        ("mass", pa.float64()),
    ]
)
CODES = pa.schema([("codes", pa.list_(pa.int32()))])

# ---- kernels


@dataclass(frozen=True)
class CodedSets:
    """The value sets of a chunk's rows in one field.

    codes: int64 [n], row after row, in 0 .. size - 1; lengths: int64 [R], at least 1: a row without a value has the
    set {missing}.
    """

    codes: np.ndarray
    lengths: np.ndarray
    size: int


@dataclass(frozen=True)
class ValueSets(CodedSets):
    """Value sets with what their codes stand for: strings, or float64 numbers with NaN as missing [size]."""

    values: pa.Array | np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, kind: str) -> "ValueSets":
        """From a categorical, multi or numeric column of the catalogue. A list is a set; "" and null are missing."""
        if kind == "multi":
            return cls._of_lists(column)
        ones = np.ones(len(column), dtype=np.int64)
        if kind == "numeric":
            numbers, codes = np.unique(column.cast(pa.float64()).to_numpy(), return_inverse=True)
            return cls(codes.astype(np.int64), ones, len(numbers), numbers)
        encoded = pc.fill_null(column.cast(pa.string()), MISSING).combine_chunks().dictionary_encode()
        return cls(encoded.indices.to_numpy().astype(np.int64), ones, len(encoded.dictionary), encoded.dictionary)

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
        lengths = np.bincount(row, minlength=len(listed))
        return cls(codes, lengths, len(encoded.dictionary), encoded.dictionary)

    def table(self) -> pa.Table:
        """The values (VALUES): how many rows carry each, and its mass, a row spreading 1 over its set."""
        mass = np.bincount(self.codes, np.repeat(1 / self.lengths, self.lengths), minlength=self.size)
        numeric = isinstance(self.values, np.ndarray)
        columns = [
            pa.nulls(self.size, pa.string()) if numeric else self.values,
            self.values if numeric else pa.nulls(self.size, pa.float64()),
            np.bincount(self.codes, minlength=self.size),
            mass,
        ]
        return pa.table(columns, schema=VALUES)

    def coded(self) -> pa.Table:
        """The codes, a list per row (CODES)."""
        ends = np.concatenate(([0], np.cumsum(self.lengths)))
        return pa.table([pa.ListArray.from_arrays(pa.array(ends, pa.int32()), self.codes.astype(np.int32))], CODES)


# ---- reading


@dataclass(frozen=True)
class CountedChunk:
    """One counted chunk; paths as text, for workers."""

    values_path: str
    codes_path: str | None
    fingerprint: str

    @classmethod
    def of(cls, artifact: Artifact) -> "CountedChunk":
        codes = str(artifact.location("codes.arrow")) if "codes.arrow" in artifact.manifest["files"] else None
        return cls(str(artifact.location("values.arrow")), codes, artifact.fingerprint)

    def values(self, field: int) -> pa.Table:
        """The values of one field (VALUES)."""
        return read_batch(self.values_path, field)

    def log_sizes(self) -> list[float]:
        """The sum of ln |A| over the rows, by field."""
        return json.loads(metadata(self.values_path)["log_sizes"])


def read_sets(codes_path: str) -> list[CodedSets]:
    """The value sets of all fields of a chunk of items."""
    sets = []
    for field, size in enumerate(json.loads(metadata(codes_path)["sizes"])):
        lists = read_batch(codes_path, field)["codes"].combine_chunks()
        sets.append(CodedSets(lists.flatten().to_numpy().astype(np.int64), lists.value_lengths().to_numpy(), size))
    return sets


def read_chunks(config: Config) -> tuple[Artifact, dict[str, list[CountedChunk]]]:
    """The artefact and its chunks by side, in their order. Raises ArtifactError."""
    artifact, chunks = open_chunks(config.prepared_dir(KIND), (KIND, VERSION), (CHUNK_KIND, CHUNK_VERSION))
    return artifact, {side: [CountedChunk.of(chunk) for chunk in chunks[side]] for side in SIDES}


def counted_fields(fields: Sequence[FieldSchema]) -> list[FieldSchema]:
    """The fields that have countable values: all but titles."""
    return [field for field in fields if field.kind != "title"]


# ---- Beam


class CountChunk(beam.DoFn):
    """(side, path, row group, folder) -> values.arrow and, of items, codes.arrow in the folder."""

    def __init__(self, fields: dict[str, list[FieldSchema]]) -> None:
        self.fields = fields

    def process(self, element: tuple[str, str, int, str]) -> None:
        side, path, row_group, folder = element
        fields, table = self.fields[side], blocks.read_row_group((path, row_group))
        count(f"{side}s", len(table))
        sets = [ValueSets.of(table[field.name], field.kind) for field in fields]
        count("values", sum(each.size for each in sets))
        log_sizes = {"log_sizes": json.dumps([float(np.log(each.lengths).sum()) for each in sets])}
        values = [each.table() for each in sets]
        if side == "item":
            sizes = {"sizes": json.dumps([each.size for each in sets])}
            codes = [each.coded() for each in sets]
            blocks.write_part(f"{folder}/codes.arrow", lambda aside: write_batches(aside, CODES, codes, sizes))
        blocks.write_part(f"{folder}/values.arrow", lambda aside: write_batches(aside, VALUES, values, log_sizes))


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


def _plan(tables: Tables, fields: dict[str, list[FieldSchema]]) -> list[Chunk]:
    """The chunks of the catalogue; the source of one is (side, path, row group)."""
    planned = []
    for side in SIDES:
        kinds = [[field.name, field.kind] for field in fields[side]]
        local, location = tables.artifact.file(f"{side}s.parquet"), tables.artifact.location(f"{side}s.parquet")
        for row_group in range(blocks.footer(local).num_row_groups):
            key = _chunk_key(local, row_group)
            name = f"{side}-{hashlib.sha256(json.dumps([key, kinds]).encode()).hexdigest()[:16]}"
            spec = Spec(CHUNK_KIND, CHUNK_VERSION, inputs={"rows": key}, config={"fields": kinds})
            planned.append(Chunk(name, spec, (side, str(location), row_group)))
    return planned


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Count the chunks of the catalogue that are new, then list them all, unless the list is current."""
    tables = Tables.read(config.tables_dir)
    fields = dict(zip(SIDES, map(counted_fields, (tables.schema.item_fields, tables.schema.user_fields)), strict=True))

    def count_chunks(new: Sequence[tuple[Chunk, Draft]]) -> dict[str, int]:
        targets: list[Location] = [draft.target for _, draft in new]
        elements = [(*chunk.source, str(target)) for (chunk, _), target in zip(new, targets, strict=True)]
        with progress(KIND, targets, "values.arrow", len(new)):
            return run_pipeline(
                lambda pipeline: pipeline | "chunks" >> beam.Create(elements) | beam.ParDo(CountChunk(fields)),
                pipeline_args,
            )

    return make_chunks(config.prepared_dir(KIND), (KIND, VERSION), _plan(tables, fields), count_chunks)


if __name__ == "__main__":
    sys.exit(main(run))
