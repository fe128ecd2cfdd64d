"""The bundle being served, as a request sees it from its beginning to its end."""

from dataclasses import dataclass
from typing import Self

from pipeline.storage import Location
from serving.answers import ItemWriter
from serving.browse import Browse
from serving.bundle import Bundle
from serving.retriever import Query, Retriever


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle with all that answers from it. run: the id of its run."""

    retriever: Retriever
    writer: ItemWriter
    run: str
    browse: Browse

    @classmethod
    def open(cls, path: Location | str) -> Self:
        """Open a bundle, check it, and run what a first request would find cold. Raises ArtifactError."""
        bundle = Bundle.open(path)
        assert bundle.artifact is not None
        writer, run = ItemWriter(bundle.items, len(bundle.rows)), bundle.artifact.manifest["run"]
        served = cls(Retriever(bundle), writer, run, Browse(bundle))
        for golden in bundle.goldens:
            found = served.retriever.recommend(Query(golden.user_id))
            served.writer.write(found.items, found.scores)
            bundle.items.split(golden.items)
        return served
