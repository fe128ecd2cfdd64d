"""Beam job: the item embeddings -> each item's nearest items by cosine (MicRec, eq. 4), exactly.

    part-<first row>.parquet    item_id, digest of its vector; neighbours: list<int32>[k], by score, highest first,
                                then by item id, 0 where there are fewer; scores: list<float32>[k]

Row 0 is the unknown item. Ids and digests let the next run keep what still holds: a list changes only by the loss of
an item in it, or by an item that is new or has another vector. The files are the same, to the byte, as without that.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from beam_jobs import blocks, item_embeddings
from beam_jobs.exact_search import NOBODY, Base, Lists, empty_lists, merge, without
from beam_jobs.item_embeddings import ItemEmbeddings, digest_words
from beam_jobs.job import check_parts, count, main, progress, run_pipeline
from pipeline.artifacts import Artifact, Spec, create, current, open_artifact
from pipeline.config import Config
from pipeline.errors import ArtifactError
from pipeline.storage import Location

KIND = "title_neighbours"
VERSION = 2
"""Code that scores or orders otherwise needs another version: it must not carry over lists of this one."""
ROWS_AT_ONCE = 4096

# ---- kernels; an item is known by the place of its id among all present ids, in order


@dataclass(frozen=True)
class Carried:
    """What an earlier artefact says of the present items.

    lists: of each row, [R, k]. whole: bool [R], all items of the list are still there, with the vectors they had, and
    so is the row's own. new: the other items.
    """

    lists: Lists
    whole: np.ndarray
    new: Base

    @classmethod
    def translate(cls, earlier: pa.Table, items: ItemEmbeddings) -> "Carried":
        """From the rows of the earlier artefact."""
        then = pc.fill_null(pc.index_in(items.ids, value_set=earlier["item_id"].combine_chunks()), -1).to_numpy()
        digests = digest_words(earlier["digest"])
        same = items.known & (then >= 0) & (digests[then] == items.digests).all(axis=1)
        place = np.full(len(digests), NOBODY, np.int32)  # now, of each earlier row
        place[then[same]] = items.place[same]
        rows, scores = _matrix(earlier["neighbours"]), _matrix(earlier["scores"])
        places = np.where(rows > 0, place[rows], NOBODY)
        whole = ((rows == 0) | (places != NOBODY)).all(axis=1)
        lists = places[then], np.where(rows > 0, scores, np.float32(-np.inf))[then]
        return cls(lists, same & whole[then], base_of(items, items.known & ~same))

    def update(self, rows: np.ndarray, vectors: np.ndarray) -> Lists:
        """The lists of some rows that are whole, with the new items that belong there."""
        kept = self.lists[0][rows], self.lists[1][rows]
        return merge(kept, self.new.best(vectors[rows], kept[0].shape[1], floors=kept[1][:, -1]))


def base_of(items: ItemEmbeddings, chosen: np.ndarray) -> Base:
    """The chosen rows, bool [R], to be searched."""
    rows = np.flatnonzero(chosen)
    return Base.build(items.vectors[rows], items.group[rows], items.place[rows])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length k -> [n, k]."""
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)


class Finder:
    """Finds the lists of any present rows, from those of an earlier artefact where there is one."""

    def __init__(self, items: ItemEmbeddings, k: int, earlier: pa.Table | None) -> None:
        self.items, self.k, self.base = items, k, base_of(items, items.known)
        self.carried = None if earlier is None else Carried.translate(earlier, items)
        self.row_of_place = np.argsort(items.place).astype(np.int32)

    def lists(self, rows: np.ndarray) -> tuple[Lists, np.ndarray]:
        """The nearest items of some rows: lists [n, k], and which of the rows were only updated, bool [n]."""
        places, scores = empty_lists(len(rows), self.k)
        updated = np.zeros(len(rows), dtype=bool)
        if self.carried is not None:
            updated = self.carried.whole[rows]
            places[updated], scores[updated] = self.carried.update(rows[updated], self.items.vectors)
        searched = self.items.known[rows] & ~updated
        found = self.base.best(self.items.vectors[rows[searched]], self.k + 1)
        places[searched], scores[searched] = without(found, self.items.place[rows[searched]])
        return (places, scores), updated

    def table(self, rows: np.ndarray, lists: Lists) -> pa.Table:
        """The artefact's rows from row numbers, int64 [n], and their lists."""
        there = lists[0] != NOBODY
        neighbours = np.where(there, self.row_of_place[lists[0]], np.int32(0))
        scores = np.where(there, lists[1], np.float32(0))
        columns = {
            "item_id": self.items.ids.take(pa.array(rows)),
            "digest": pa.array([words.tobytes() for words in self.items.digests[rows]], item_embeddings.DIGEST),
            "neighbours": pa.FixedSizeListArray.from_arrays(pa.array(neighbours.reshape(-1)), self.k),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), self.k),
        }
        return pa.table(columns)


# ---- Beam


class Search(beam.DoFn):
    """(start, stop) of some rows -> the part file of them."""

    def __init__(self, items: Location, earlier: Location | None, k: int, folder: Location) -> None:
        self.items, self.k, self.folder = str(items), k, str(folder)
        self.earlier = None if earlier is None else str(earlier)
        self.shared = Shared()

    def setup(self) -> None:
        self.finder = self.shared.acquire(self._load)  # one copy for all threads of a worker

    def _load(self) -> Finder:
        earlier = None if self.earlier is None else read_parts(open_artifact(self.earlier, KIND, VERSION))
        return Finder(ItemEmbeddings.read(self.items), self.k, earlier)

    def process(self, span: tuple[int, int]) -> None:
        rows = np.arange(*span)
        lists, updated = self.finder.lists(rows)
        count("neighbours", np.count_nonzero(lists[0] != NOBODY))
        count("items_updated", np.count_nonzero(updated))
        count("items_searched", np.count_nonzero(self.finder.items.known[rows] & ~updated))
        table = self.finder.table(rows, lists)
        blocks.write_part(f"{self.folder}/part-{span[0]:010d}.parquet", lambda aside: pq.write_table(table, aside))


def read_parts(artifact: Artifact) -> pa.Table:
    """All rows of the artefact, in order."""
    return pa.concat_tables([pq.read_table(path) for path in artifact.parts("part-")])


# ---- the stage


def run(config: Config, pipeline_args: Sequence[str] = ()) -> Artifact:
    """Write the item embeddings and their neighbours, each unless it is current. Needs the vocabularies."""
    embedded, k = item_embeddings.run(config, pipeline_args), config.prepare.titles.neighbours
    path = config.prepared_dir(KIND)
    spec = Spec(KIND, VERSION, {item_embeddings.KIND: embedded.fingerprint}, {"neighbours": k})
    if artifact := current(path, spec):
        return artifact
    rows = pq.read_metadata(embedded.file(item_embeddings.ROWS)).num_rows
    spans = [(start, min(start + ROWS_AT_ONCE, rows)) for start in range(0, rows, ROWS_AT_ONCE)]
    with create(path, spec) as draft, progress(KIND, [draft.target], "part-*.parquet", len(spans)):
        search = Search(embedded.path, path if _comparable(path, spec) else None, k, draft.target)
        draft.counts.update(embedded.counts)
        draft.counts.update(
            run_pipeline(lambda pipeline: pipeline | beam.Create(spans) | beam.ParDo(search), pipeline_args)
        )
        check_parts(KIND, draft.target, "part-*.parquet", len(spans))
    return open_artifact(path, KIND, VERSION)


def _comparable(path: Location, spec: Spec) -> bool:
    """Is there an artefact with lists of the same length? That its vectors are of one encoder is seen row by row."""
    try:
        return open_artifact(path, KIND, VERSION).config == spec.config
    except ArtifactError:
        return False


if __name__ == "__main__":
    sys.exit(main(run))
