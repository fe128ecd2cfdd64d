"""The parts of a bundle of version 1 that version 2 keeps otherwise.

items.parquet            item_id, title, count, field.<name>; row i is item index i + 1
users.parquet            user_id, count, field.<name>; row i is user index i + 1
index.faiss              the one FAISS index, its depth of search set in it

They are read into memory, and what version 2 finds in the bundle is computed here: version 1 opens slowly.
"""

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.ids import Ids
from serving.index import ItemIndex
from serving.records import Items, Locate, Users, fields_of, map_array, read_histories
from serving.shard import Shard

TUNED_FOR = 500


def read(file: Locate) -> tuple[Items, Users, ItemIndex, np.ndarray]:
    """The items, the users, the index, and int64 [R + 1], the row of each item index, -1 where not indexed."""
    columns = _columns(file, "items.parquet")
    items = Items(
        Ids.of(columns["item_id"].cast(pa.string())), columns["title"], columns["count"].to_numpy(), fields_of(columns)
    )
    columns = _columns(file, "users.parquet")
    users = Users(Ids.of(columns["user_id"].cast(pa.string())), fields_of(columns), None, *read_histories(file))
    vectors = map_array(file("vectors.npy"))
    shard = Shard(faiss.read_index(str(file("index.faiss"))))
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    # Version 1 does not say whether the index gives exact scores.
    index = ItemIndex([shard], vectors, norms, TUNED_FOR, refine=1.0)
    item_indices = map_array(file("item_indices.npy"))
    item_rows = np.full(len(items) + 1, -1, dtype=np.int64)
    item_rows[item_indices] = np.arange(len(item_indices))
    return items, users, index, item_rows


def _columns(file: Locate, name: str) -> dict[str, pa.Array]:
    table = pq.read_table(file(name))
    return {name: table[name].combine_chunks() for name in table.column_names}
