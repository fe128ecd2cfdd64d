"""The bundle being served, as a request sees it from its beginning to its end."""

from collections.abc import Callable
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
    def open(cls, path: Location | str, checked: bool = False, rest: Callable[[], None] = lambda: None) -> Self:
        """Open a bundle, check it unless it was, and run what a first request would find cold. Raises ArtifactError.

        rest: called between two steps.
        """
        bundle = Bundle.open(path, checked, rest)
        assert bundle.artifact is not None
        writer, run = ItemWriter(bundle.items, len(bundle.rows)), bundle.artifact.manifest["run"]
        served = cls(Retriever(bundle), writer, run, Browse(bundle))
        for golden in bundle.goldens:
            rest()
            found = served.retriever.recommend(Query(golden.user_id))
            served.writer.write({"bundle": run}, found.items, found.scores)
            bundle.items.split(golden.items)
        some = np.linspace(1, len(bundle.users), min(WARM, len(bundle.users)), dtype=np.int64)
        for user_id in bundle.users.ids.decode(some):
            rest()
            served.retriever.recommend(Query(user_id))  # brings the lists that users ask for into memory
        return served
