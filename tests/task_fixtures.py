"""What the SSL tasks read, made up for the small catalogue of tests/tower_fixtures.py."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tower_fixtures import ROWS, items

from pipeline.artifacts import Spec, create
from ssl_tasks.task import Corpus

# Item 1 co-occurs with 2 and 3, three times as often with 3; items beyond 5 have no sessions.
PAIRS = {1: ([3, 2], [3.0, 1.0]), 2: ([1], [1.0]), 3: ([1, 4], [3.0, 2.0]), 4: ([3, 5], [2.0, 1.0]), 5: ([4], [1.0])}


def make_corpus(folder: Path) -> Corpus:
    """Every artefact that a task reads; the neighbours of an item are the four after it."""
    names = [field.name for field in items().fields]
    matrix = np.random.default_rng(0).random((4, 4))
    with create(folder / "mutual_information", Spec("mutual_information", 1)) as draft:
        content = {"fields": names, "matrix": (matrix + matrix.T).tolist()}
        (draft.dir / "mutual_information.json").write_text(json.dumps(content))
    neighbours = np.zeros((ROWS, 4), np.int32)
    neighbours[1:-1] = (np.arange(1, ROWS - 1)[:, None] + np.arange(4)) % (ROWS - 1) + 1
    with create(folder / "title_neighbours", Spec("title_neighbours", 2, config={"neighbours": 4})) as draft:
        for start in (0, 20):
            lists = pa.FixedSizeListArray.from_arrays(pa.array(neighbours[start : start + 20].reshape(-1)), 4)
            pq.write_table(pa.table({"neighbours": lists}), draft.dir / f"part-{start:010d}.parquet")
    with create(folder / "session_cooccurrence", Spec("session_cooccurrence", 1)) as draft:
        pq.write_table(cooccurrence_table(), draft.dir / "part-00000.parquet")
    jobs = ("mutual_information", "title_neighbours", "session_cooccurrence")
    return Corpus(ROWS, items(), {job: folder / job for job in jobs})


def cooccurrence_table() -> pa.Table:
    lists = {
        "neighbours": pa.array([n for n, _ in PAIRS.values()], pa.list_(pa.int32())),
        "weights": pa.array([w for _, w in PAIRS.values()], pa.list_(pa.float32())),
    }
    return pa.table({"item": pa.array(list(PAIRS), pa.int32()), **lists})
