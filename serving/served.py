"""The bundle being served, as a request sees it from its beginning to its end."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.storage import Location
from serving.answers import ItemWriter
from serving.browse import Browse
from serving.bundle import Bundle
from serving.retriever import Query, Retriever

WARM = 64
"""Users who are answered before the first request is."""


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle with all that answers from it. run: the id of its run."""

    retriever: Retriever
    writer: ItemWriter
    run: str
    browse: Browse

    @classmethod
    def open(cls, path: Location | str, thread: Executor) -> Self:
        """Open a bundle in a thread, whose heap will hold it, check it, and warm it here. Raises ArtifactError."""
        served = cls.of(thread.submit(Bundle.open, path).result())
        for _ in served.warm():
            pass
        return served

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """What answers from a bundle that was opened from files; not warm yet."""
        assert bundle.artifact is not None
        writer, run = ItemWriter(bundle.items, len(bundle.rows)), bundle.artifact.manifest["run"]
        return cls(Retriever(bundle), writer, run, Browse(bundle))

    def warm(self, before: "Served | None" = None) -> Iterator[None]:
        """Run what a first request would find cold, in steps that take about as long as a request.

        before: what was served until now; the bytes of the items that it had ready are made here as well.
        """
        bundle = self.retriever.bundle
        for golden in bundle.goldens:
            found = self.retriever.recommend(Query(golden.user_id))
            self.writer.write({"bundle": self.run}, found.items, found.scores)
            bundle.items.split(golden.items)
            yield
        some = np.linspace(1, len(bundle.users), min(WARM, len(bundle.users)), dtype=np.int64)
        for user_id in bundle.users.ids.decode(some):
            self.retriever.recommend(Query(user_id))  # brings the lists that users ask for into memory
            yield
        if before is not None:
            yield from self.writer.make_ready(before.writer)
