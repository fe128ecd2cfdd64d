"""The embedding of each item: that of its title by a BERT (MicRec, section 3.4), or one of the user's own.

    embeddings.npy   float32 [R, D], of unit length; row r is that of index r, zeros where there is none
    rows.parquet     item_id string, digest binary[16] of its vector, zeros where there is none; R rows

Row 0 is the unknown item, with the id "". The search for neighbours reads this artefact, wherever its workers run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.embedding_table import table_files, write_embeddings
from beam_jobs.title_embeddings import TitleStore, embed_titles, encoder_key
from pipeline.artifacts import Artifact, Draft, Spec, create, current, file_digest, open_artifact
from pipeline.catalogue import Vocabularies, titles
from pipeline.config import Config
from pipeline.storage import Location
from pipeline.tables import Tables

KIND, VERSION = "item_embeddings", 1
EMBEDDINGS, ROWS = "embeddings.npy", "rows.parquet"
DIGEST = pa.binary(16)


@dataclass(frozen=True)
class ItemEmbeddings:
    """The artefact, opened. vectors: float32 [R, D], memory-mapped; ids: string [R]; digests: uint64 [R, 2]."""

    vectors: np.ndarray
    ids: pa.Array
    digests: np.ndarray

    @classmethod
    def read(cls, path: Location | str) -> "ItemEmbeddings":
        """Open the artefact at `path`. Raises ArtifactError."""
        artifact = open_artifact(path, KIND, VERSION)
        rows = pq.read_table(artifact.file(ROWS)).combine_chunks()
        vectors = np.load(artifact.file(EMBEDDINGS), mmap_mode="r")
        return cls(vectors, rows["item_id"].combine_chunks(), digest_words(rows["digest"]))

    @cached_property
    def known(self) -> np.ndarray:
        """Has the row a vector? bool [R]."""
        return (self.digests != 0).any(axis=1)

    @cached_property
    def group(self) -> np.ndarray:
        """A number for each row, alike for equal vectors: int64 [R]."""
        return np.unique(self.digests, axis=0, return_inverse=True)[1]

    @cached_property
    def place(self) -> np.ndarray:
        """The place of each row's item id among all ids in order, int32 [R]. Unlike a row, it outlives a recount."""
        place = np.zeros(len(self.ids), np.int32)
        place[pc.array_sort_indices(self.ids).to_numpy()] = np.arange(len(self.ids))
        return place


def digest_words(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of digests -> uint64 [n, 2]."""
    flat = b"".join(column.to_pylist())
    return np.frombuffer(flat, np.uint64).reshape(-1, 2)


def vector_digests(vectors: np.ndarray) -> pa.Array:
    """float32 [R, D] -> a digest of each row's bytes; zeros for a row of zeros."""
    size = DIGEST.byte_width
    digests = [hashlib.blake2b(row, digest_size=size).digest() if row.any() else bytes(size) for row in vectors]
    return pa.array(digests, DIGEST)


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the embeddings unless they are current. Needs the vocabularies, to number the rows.

    Without any title the embeddings have no columns, and no BERT is needed.
    Raises ConfigError or InputError when the encoder, or the table, is not there, or is none.
    """
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    inputs = {"vocabulary": vocabularies.artifact.checksum("items.parquet")}
    if config.prepare.titles.source == "table":
        return _run_table(config, vocabularies, inputs)
    return _run_encoder(config, vocabularies, inputs, pipeline_args)


def _run_table(config: Config, vocabularies: Vocabularies, inputs: dict[str, str]) -> Artifact:
    files = table_files(config.prepare.titles.table)
    inputs = inputs | {f"table{file.suffix}": file_digest(file) for file in files}
    path, spec = config.prepared_dir(KIND), Spec(KIND, VERSION, inputs)
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        draft.counts.update(write_embeddings(files, vocabularies.items, draft.dir / EMBEDDINGS))
        _write_rows(draft, vocabularies)
    return open_artifact(path, KIND, VERSION)


def _run_encoder(config: Config, vocabularies: Vocabularies, inputs: dict[str, str], args: Sequence[str]) -> Artifact:
    tables = Tables.read(config.tables_dir)
    of_rows = titles(tables, vocabularies)
    inputs = inputs | {name: tables.artifact.checksum(name) for name in ("items.parquet", "schema.json")}
    if any(of_rows):
        inputs["encoder"] = encoder_key(config.prepare.titles)
    path, spec = config.prepared_dir(KIND), Spec(KIND, VERSION, inputs)
    if artifact := current(path, spec):
        return artifact
    distinct, store, counts = sorted(set(of_rows) - {""}), None, {"titles_distinct": 0}
    if distinct:
        store, counts = embed_titles(config, inputs["encoder"], distinct, args)
    with create(path, spec) as draft:
        draft.counts.update(counts)
        draft.counts["titles_truncated"] = _gather(store, of_rows, draft.dir / EMBEDDINGS)
        _write_rows(draft, vocabularies)
    return open_artifact(path, KIND, VERSION)


def _gather(store: TitleStore | None, of_rows: list[str], path: Path) -> int:
    """Write the vectors of the rows' titles; returns how many of the distinct titles were cut."""
    embeddings, truncated = None, 0
    for which, part in store.lookup(of_rows) if store else ():
        vectors = part["vector"].combine_chunks()
        dim = vectors.type.list_size
        if embeddings is None:
            embeddings = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(of_rows), dim))
        embeddings[which] = vectors.flatten().to_numpy().reshape(-1, dim)
        cut = np.flatnonzero(part["truncated"].to_numpy())
        truncated += len({of_rows[row] for row in which[cut]})
    if embeddings is None:
        np.save(path, np.zeros((len(of_rows), 0), np.float32))
    else:
        embeddings.flush()
    return truncated


def _write_rows(draft: Draft, vocabularies: Vocabularies) -> None:
    digests = vector_digests(np.load(draft.dir / EMBEDDINGS, mmap_mode="r"))
    ids = pa.concat_arrays([pa.array([""]), vocabularies.items.values])
    pq.write_table(pa.table({"item_id": ids, "digest": digests}), draft.dir / ROWS)
    known = int(np.count_nonzero((digest_words(digests) != 0).any(axis=1)))
    draft.counts.update(items_with_vector=known, items_without_vector=len(ids) - 1 - known)
