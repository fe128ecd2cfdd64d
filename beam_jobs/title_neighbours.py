"""Beam job: the titles -> their BERT embeddings and each item's nearest titles by cosine (MicRec, eq. 4)."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.utils.shared import Shared

from beam_jobs import blocks
from beam_jobs.job import count, main, progress, run_pipeline
from beam_jobs.title_encoder import TitleEncoder, find_encoder
from pipeline.artifacts import Artifact, Draft, Spec, create, current, file_digest, open_artifact
from pipeline.catalogue import Vocabularies, titles
from pipeline.config import Config, TitleConfig
from pipeline.storage import Location, glob, locate, open_parquet, remove
from pipeline.tables import Tables

KIND, VERSION = "title_neighbours", 1
TITLES_AT_ONCE = 512
"""Distinct titles of a part file."""
QUERIES_AT_ONCE = 4096

# ---- kernels


def nearest(index: Any, vectors: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of each row, itself left out.

    index: a FAISS index of all vectors by inner product; vectors: float32 [n, D], the queries, which are its
    rows `rows`. Returns: (rows int64 [n, k], scores float32 [n, k]), best first, equal ones by row; -1 and 0
    where the index holds fewer than k others.
    """
    scores, found = index.search(np.ascontiguousarray(vectors), k + 1)
    scores[(found == rows[:, None]) | (found < 0)] = -np.inf
    order = np.lexsort((found, -scores), axis=1)[:, :k]
    scores, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)
    nobody = np.isneginf(scores)
    return np.where(nobody, -1, found), np.where(nobody, np.float32(0), scores)


def distinct_titles(column: pa.ChunkedArray) -> pa.Table:
    """The different titles of a column but the empty one."""
    values = column.cast(pa.string()).combine_chunks().unique()
    table = pa.table({"title": values.drop_null()})
    return table.filter(pc.not_equal(table["title"], ""))


# ---- Beam: embed


def split_titles(source: tuple[str, int], field: str, partitions: int) -> Iterator[tuple[int, bytes]]:
    """One row group of the items table -> its distinct titles, a block per partition of their hash."""
    table = distinct_titles(blocks.read_row_group(source)[field])
    partition = (blocks.string_hash(table["title"].combine_chunks()) % np.uint64(partitions)).astype(np.uint16)
    yield from blocks.split(table, partition, partitions)


def title_chunks(element: tuple[int, Iterable[bytes]], size: int) -> Iterator[bytes]:
    """The titles of a partition, each once -> blocks of title and part name; like lengths share a block."""
    partition, received = element
    values = distinct_titles(blocks.concat(received)["title"]).column(0).to_pylist()
    values.sort(key=lambda title: (len(title), title))
    for number, start in enumerate(range(0, len(values), size)):
        chunk = pa.table({"title": values[start : start + size]})
        yield blocks.pack(chunk.replace_schema_metadata({"part": f"part-{partition:05d}-{number:05d}.parquet"}))


class TitleHandler(ModelHandler[bytes, bytes, TitleEncoder]):
    """Blocks of titles -> the same blocks with a column of vectors. A process loads the BERT once."""

    def __init__(self, titles: TitleConfig) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self.titles = titles

    def load_model(self) -> TitleEncoder:
        return TitleEncoder(self.titles.encoder, self.titles.max_tokens, self.titles.batch_size)

    def run_inference(
        self, batch: Sequence[bytes], model: TitleEncoder, inference_args: dict[str, Any] | None = None
    ) -> Iterable[bytes]:
        for block in batch:
            table = blocks.unpack(block)
            texts = table["title"].to_pylist()
            count("titles_truncated", model.truncated(texts))
            flat = pa.array(model.encode(texts).reshape(-1))  # (n, dim) -> (n * dim,)
            yield blocks.pack(table.append_column("vector", pa.FixedSizeListArray.from_arrays(flat, model.dim)))


def write_embeddings(block: bytes, folder: str) -> None:
    """Write one block of embedded titles under the part name it carries."""
    table = blocks.unpack(block)
    count("distinct_titles", len(table))
    path = f"{folder}/{table.schema.metadata[b'part'].decode()}"
    blocks.write_part(path, lambda aside: pq.write_table(table, aside))


def embed(sources: list[tuple[str, int]], field: str, config: Config, folder: Location, args: Sequence[str]) -> dict:
    """Embed the distinct titles of the items table into part files; returns the counts."""
    partitions = config.prepare.partitions
    return run_pipeline(
        lambda pipeline: (
            pipeline
            | "row groups" >> beam.Create(sources)
            | beam.FlatMap(split_titles, field, partitions).with_output_types(tuple[int, bytes])
            | beam.GroupByKey()
            | beam.FlatMap(title_chunks, TITLES_AT_ONCE)
            | beam.Reshuffle()
            | RunInference(TitleHandler(config.prepare.titles))
            | beam.Map(write_embeddings, str(folder))
        ),
        args,
    )


def gather_embeddings(parts: list[Location], titles_of_rows: list[str], path: Path) -> int:
    """Write embeddings.npy, float32 [R, D]: row r has the vector of its title, zeros without one. Returns D."""
    names = [open_parquet(part).read(columns=["title"])["title"] for part in parts]
    known = pa.chunked_array([chunk for name in names for chunk in name.chunks], pa.string())
    found = pc.fill_null(pc.index_in(pa.array(titles_of_rows, pa.string()), value_set=known), -1).to_numpy()
    dim = open_parquet(parts[0]).schema_arrow.field("vector").type.list_size if parts else 0
    embeddings = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(found), dim))
    order = np.argsort(found, kind="stable")
    starts = np.cumsum([0, *map(len, names)])
    bounds = np.searchsorted(found[order], starts)
    for part, start, first, stop in zip(parts, starts, bounds, bounds[1:], strict=False):
        vectors = open_parquet(part).read(columns=["vector"])["vector"].combine_chunks().flatten()
        rows = order[first:stop]
        embeddings[rows] = vectors.to_numpy().reshape(-1, dim)[found[rows] - start]
    embeddings.flush()
    return dim


# ---- Beam: search


class Search(beam.DoFn):
    """(start, stop) of the titled rows -> a part file of their neighbours."""

    def __init__(self, embeddings: Location, k: int, folder: Location) -> None:
        self.embeddings, self.k, self.folder = str(embeddings), k, str(folder)
        self.shared = Shared()

    def setup(self) -> None:
        self.loaded = self.shared.acquire(self._load)  # one copy for all threads of a worker

    def _load(self) -> "Loaded":
        import faiss

        embeddings = load_array(self.embeddings)
        rows = np.flatnonzero(embeddings.any(axis=1))
        index = faiss.IndexFlatIP(embeddings.shape[1])
        for start in range(0, len(rows), QUERIES_AT_ONCE):
            index.add(np.ascontiguousarray(embeddings[rows[start : start + QUERIES_AT_ONCE]]))
        return Loaded(embeddings, rows, index)

    def process(self, span: tuple[int, int]) -> None:
        titled = self.loaded.rows[slice(*span)]
        found, scores = nearest(self.loaded.index, self.loaded.embeddings[titled], np.arange(*span), self.k)
        neighbours = np.where(found < 0, 0, self.loaded.rows[found]).astype(np.int32)
        count("neighbours", np.count_nonzero(neighbours))

        def write(path: str) -> None:
            with open(path, "wb") as stream:
                np.savez(stream, rows=titled, neighbours=neighbours, scores=scores)

        blocks.write_part(f"{self.folder}/part-{span[0]:010d}.npz", write)


def load_array(where: str) -> np.ndarray:
    """An .npy file: mapped where it is local, read into memory where it is remote."""
    path = locate(where)
    if isinstance(path, Path):
        return np.load(path, mmap_mode="r")
    with path.open("rb") as stream:
        return np.load(stream)


@dataclass(frozen=True)
class Loaded:
    """What the threads of a worker share: embeddings [R, D], the titled rows, and the index of those."""

    embeddings: np.ndarray
    rows: np.ndarray
    index: Any


def search(embeddings: Location, titled: int, k: int, folder: Location, args: Sequence[str]) -> dict[str, int]:
    """Search the neighbours of all titled rows into part files; returns the counts."""
    spans = [(start, min(start + QUERIES_AT_ONCE, titled)) for start in range(0, titled, QUERIES_AT_ONCE)]
    step = beam.ParDo(Search(embeddings, k, folder))
    return run_pipeline(lambda pipeline: pipeline | "spans" >> beam.Create(spans) | beam.Reshuffle() | step, args)


def gather_neighbours(parts: list[Location], size: int, k: int, folder: Path) -> None:
    """Write neighbours.npy, int32 [R, k], and scores.npy, float32 [R, k]; zeros where there are none."""
    neighbours, scores = np.zeros((size, k), np.int32), np.zeros((size, k), np.float32)
    for part in parts:
        with part.open("rb") as stream, np.load(stream) as loaded:
            neighbours[loaded["rows"]], scores[loaded["rows"]] = loaded["neighbours"], loaded["scores"]
    np.save(folder / "neighbours.npy", neighbours)
    np.save(folder / "scores.npy", scores)


# ---- the stage


def write(config: Config, tables: Tables, of_rows: list[str], draft: Draft, args: Sequence[str]) -> None:
    """Fill the artefact; of_rows: the title of each index. Part files live in a folder that is gone at the end."""
    parts, k = draft.target / "parts", config.prepare.titles.neighbours
    embeddings = draft.target / "embeddings.npy"
    titled = sum(map(bool, of_rows))
    draft.counts.update(items_titled=titled, items_untitled=len(of_rows) - 1 - titled)
    if titled:
        field = next(f.name for f in tables.schema.item_fields if f.kind == "title")
        sources = blocks.row_groups([tables.artifact.location("items.parquet")])
        expected = _expected_parts(of_rows, config.prepare.partitions)
        with progress("title embeddings", [parts], "part-*.parquet", expected):
            draft.counts.update(embed(sources, field, config, parts, args))
    found = glob(parts, "*.parquet")
    blocks.write_part(embeddings, lambda aside: gather_embeddings(found, of_rows, Path(aside)))
    if titled:
        with progress(KIND, [parts], "part-*.npz", -(-titled // QUERIES_AT_ONCE)):
            draft.counts.update(search(embeddings, titled, k, parts, args))
    gather_neighbours(glob(parts, "*.npz"), len(of_rows), k, draft.dir)
    remove(parts)


def _expected_parts(of_rows: list[str], partitions: int) -> int:
    distinct = blocks.string_hash(pa.array(sorted(set(of_rows) - {""}), pa.string()))
    sizes = np.bincount((distinct % np.uint64(partitions)).astype(np.int64))
    return int((-(-sizes // TITLES_AT_ONCE)).sum())


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write embeddings and neighbours unless they are current. Needs the vocabularies, to number the rows.

    Without any title the embeddings have no columns, the neighbours are all 0, and no BERT is needed.
    """
    tables = Tables.read(config.tables_dir)
    vocabularies = Vocabularies.read(config.prepared_dir("vocabularies"))
    of_rows = titles(tables, vocabularies)
    inputs = {"tables": tables.artifact.fingerprint, "vocabularies": vocabularies.artifact.fingerprint}
    if any(of_rows):
        inputs["encoder"] = file_digest(find_encoder(config.prepare.titles.encoder) / "model.safetensors")
    path = config.prepared_dir(KIND)
    spec = Spec(KIND, VERSION, inputs, config={"titles": config.prepare.titles.model_dump()})
    if artifact := current(path, spec):
        return artifact
    with create(path, spec) as draft:
        write(config, tables, of_rows, draft, pipeline_args)
    return open_artifact(path, KIND, VERSION)


if __name__ == "__main__":
    sys.exit(main(run))
