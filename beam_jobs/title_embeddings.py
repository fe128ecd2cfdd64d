"""Titles -> their embeddings, each computed once: a store that a run reads, and adds the titles it lacks to.

    <workdir>/prepared/title_embeddings/<encoder key>/<number>/     an artefact for each batch of titles once new
        titles.parquet      title; row group g belongs to part g
        part-<g>.parquet    title, vector: list<float32>[D], truncated: bool

Batches are numbered from 0 on, so that reading needs no listing, and a batch killed half-way is the one written next.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import ModelHandler, RunInference

from beam_jobs import blocks
from beam_jobs.job import check_parts, progress, run_pipeline
from beam_jobs.title_encoder import FILES, TitleEncoder, find_encoder
from pipeline.artifacts import Artifact, Spec, create, file_digest, open_artifact
from pipeline.config import Config, TitleConfig
from pipeline.errors import ArtifactError
from pipeline.progress import summarised
from pipeline.storage import Location

KIND = "title_embeddings"
VERSION = 1
"""A part of the encoder key: code that computes other vectors needs another version."""
TITLES_PER_BATCH = 20_000
"""What a killed run loses at most: about a minute of two cores."""
TITLES_PER_PART = 1024
TITLES = "titles.parquet"


def encoder_key(titles: TitleConfig) -> str:
    """What the vectors depend on beside the title: 16 hex digits. Raises ConfigError when there is no such encoder."""
    folder = find_encoder(titles.encoder)
    content = {"files": {name: file_digest(folder / name) for name in FILES}, "max_tokens": titles.max_tokens}
    return hashlib.sha256(json.dumps(content | {"version": VERSION}, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TitleStore:
    """The batches under `folder`, which is that of one encoder key."""

    folder: Location
    batches: tuple[Artifact, ...]

    @classmethod
    def read(cls, folder: Location) -> "TitleStore":
        """Open the batches up to the first that is missing or damaged; those from there on are embedded anew."""
        batches: list[Artifact] = []
        while True:
            try:
                batches.append(open_artifact(folder / f"{len(batches):05d}", KIND, VERSION))
            except ArtifactError:
                return cls(folder, tuple(batches))

    def missing(self, titles: Iterable[str]) -> list[str]:
        """Those of some distinct titles that no batch has; like lengths side by side, as they share a part."""
        wanted = pa.array(titles, pa.string())
        new = wanted.filter(pc.invert(pc.is_in(wanted, value_set=self._titles())))
        return sorted(new.to_pylist(), key=lambda title: (len(title), title))

    def lookup(self, titles: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """For each part that has some of the titles: (which, int64 [n]; their rows of the part, in that order)."""
        found = pc.fill_null(pc.index_in(pa.array(titles, pa.string()), value_set=self._titles()), -1).to_numpy()
        order, start = np.argsort(found, kind="stable"), 0
        for batch, group, length in self._parts():
            first, stop = np.searchsorted(found, [start, start + length], sorter=order)
            if stop > first:
                which = order[first:stop]
                part = pq.read_table(batch.file(f"part-{group:05d}.parquet"), columns=["vector", "truncated"])
                yield which, part.take(pa.array(found[which] - start))
            start += length

    def _titles(self) -> pa.ChunkedArray:
        columns = [pq.read_table(batch.file(TITLES))["title"] for batch in self.batches]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())

    def _parts(self) -> Iterator[tuple[Artifact, int, int]]:
        """(batch, number of the part in it, its titles), in the order of `_titles`."""
        for batch in self.batches:
            metadata = pq.read_metadata(batch.file(TITLES))
            for group in range(metadata.num_row_groups):
                yield batch, group, metadata.row_group(group).num_rows


def embed_titles(
    config: Config, key: str, titles: Sequence[str], args: Sequence[str] = ()
) -> tuple[TitleStore, dict[str, int]]:
    """Embed those of some distinct titles that the store of `key` lacks.

    Each batch is published before the next begins. Returns: the store, which now has all the titles; counts.
    """
    folder = config.prepared_dir(KIND) / key
    store = TitleStore.read(folder)
    missing = store.missing(titles)
    for number, start in enumerate(range(0, len(missing), TITLES_PER_BATCH), start=len(store.batches)):
        batch = missing[start : start + TITLES_PER_BATCH]
        summarised(partial(_write_batch, folder / f"{number:05d}", batch, config.prepare.titles, args))
    counts = {"titles_distinct": len(titles), "titles_embedded": len(missing)}
    return TitleStore.read(folder), counts | {"titles_reused": len(titles) - len(missing)}


def _write_batch(path: Location, titles: list[str], settings: TitleConfig, args: Sequence[str]) -> Artifact:
    spec = Spec(KIND, VERSION, {"encoder": path.parent.name})
    parts = -(-len(titles) // TITLES_PER_PART)
    with create(path, spec) as draft, progress("title embeddings", [draft.target], "part-*.parquet", parts):
        table, source = pa.table({"title": pa.array(titles, pa.string())}), draft.target / TITLES
        blocks.write_part(source, lambda aside: pq.write_table(table, aside, row_group_size=TITLES_PER_PART))
        run_pipeline(lambda pipeline: _embed(pipeline, source, settings, draft.target), args)
        check_parts(KIND, draft.target, "part-*.parquet", parts)
        draft.counts["titles"] = len(titles)
    return open_artifact(path, KIND, VERSION)


# ---- Beam


def _embed(pipeline: beam.Pipeline, source: Location, settings: TitleConfig, folder: Location) -> None:
    """Add to a pipeline: the row groups of `source` -> a part file each, in `folder`."""
    embedded = (
        pipeline
        | "row groups" >> beam.Create(blocks.row_groups([source]))
        | beam.Map(read_titles)
        | RunInference(TitleHandler(settings))
    )
    embedded | beam.Map(write_vectors, str(folder))


def read_titles(source: tuple[str, int]) -> bytes:
    """One row group of titles.parquet -> a block that knows the name of its part."""
    table = blocks.read_row_group(source).select(["title"])
    return blocks.pack(table.replace_schema_metadata({"part": f"part-{source[1]:05d}.parquet"}))


class TitleHandler(ModelHandler[bytes, bytes, TitleEncoder]):
    """Blocks of titles -> the same blocks with their vectors. A process loads the BERT once."""

    def __init__(self, settings: TitleConfig) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self.settings = settings

    def load_model(self) -> TitleEncoder:
        return TitleEncoder(self.settings.encoder, self.settings.max_tokens)

    def run_inference(
        self, batch: Sequence[bytes], model: TitleEncoder, inference_args: dict[str, Any] | None = None
    ) -> Iterable[bytes]:
        for block in batch:
            table = blocks.unpack(block)
            vectors, truncated = model.encode(table["title"].to_pylist())
            flat = pa.array(vectors.reshape(-1))  # (n, D) -> (n * D,)
            table = table.append_column("vector", pa.FixedSizeListArray.from_arrays(flat, model.dim))
            yield blocks.pack(table.append_column("truncated", pa.array(truncated)))


def write_vectors(block: bytes, folder: str) -> None:
    """Write one block of embedded titles under the name it carries."""
    table = blocks.unpack(block)
    blocks.write_part(f"{folder}/{table.schema.metadata[b'part'].decode()}", lambda aside: pq.write_table(table, aside))
