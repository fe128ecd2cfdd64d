"""A user's own item embeddings: a Parquet file, or a .npy matrix with one item id a line in a .txt beside it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from beam_jobs.exact_search import row_sums
from pipeline.errors import ConfigError, InputError, nearest
from pipeline.vocabulary import Vocabulary

ROWS_AT_ONCE = 1 << 14
ID = "item_id"
Block = tuple[pa.Array, np.ndarray]
"""(item ids string [n], vectors float64 [n, D]); a missing vector or number is NaN."""


def table_files(path: str | None) -> list[Path]:
    """The files of the table at `path`: one .parquet, or .npy and .txt. Raises ConfigError unless they are there."""
    if path is None:
        raise ConfigError("`prepare.titles.source` is `table`, but `prepare.titles.table` names none")
    files = [Path(path)]
    if files[0].suffix == ".npy":
        files.append(files[0].with_suffix(".txt"))
    elif files[0].suffix != ".parquet":
        raise ConfigError(f"`prepare.titles.table`: {path!r} is neither a .parquet nor a .npy file")
    for file, what in zip(files, ("the embeddings", "the item id of each row of the .npy, one a line"), strict=False):
        if not file.is_file():
            raise ConfigError(f"`prepare.titles.table`: there is no file {file} with {what}")
    return files


def write_embeddings(files: list[Path], items: Vocabulary, path: Path) -> dict[str, int]:
    """Write the table's vectors, each divided by its length, as .npy float32 [R, D]; zeros where an item has none.

    Returns: counts of the rows, and of those left out by reason; of several vectors of an item the first stands.
    Raises InputError when the table cannot be read, or has no vector of any item.
    """
    counts: Counter[str] = Counter()
    taken, embeddings, example = np.zeros(items.size, dtype=bool), None, ""
    for ids, vectors in _read(files):
        if embeddings is None:
            shape, example = (items.size, vectors.shape[1]), ids[0].as_py()
            embeddings = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        rows = items.encode(ids)
        kept = _sift(rows, vectors, taken, counts)
        embeddings[rows[kept]] = unit(vectors[kept])
        taken[rows[kept]] = True
    if embeddings is None or not taken.any():
        raise InputError(
            f"{files[0]} has no vector of any item: {dict(counts)}. Its first item id is {example!r}; one of the "
            f"catalogue's is {items.value(1)!r}. Cure: write the ids as the items table has them"
        )
    embeddings.flush()
    return dict(counts)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float64 [n, D], finite and not zero -> float32 [n, D] of length 1."""
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True)  # so that no square overflows
    return (scaled / np.sqrt(row_sums(scaled**2))[:, None]).astype(np.float32)


def _sift(rows: np.ndarray, vectors: np.ndarray, taken: np.ndarray, counts: Counter[str]) -> np.ndarray:
    """Which of a block's vectors to keep, int64 [m]; counts all and each reason."""
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(rows, return_index=True)[1]] = True
    reasons = {
        "vectors_of_unknown_items": rows == 0,
        "vectors_not_finite": ~np.isfinite(vectors).all(axis=1),
        "vectors_zero": ~vectors.any(axis=1),
        "vectors_repeated": ~first | taken[rows],
    }
    kept = np.ones(len(rows), dtype=bool)
    counts["vectors"] += len(rows)
    for reason, bad in reasons.items():
        counts[reason] += int(np.count_nonzero(kept & bad))
        kept &= ~bad
    return np.flatnonzero(kept)


def _read(files: list[Path]) -> Iterator[Block]:
    blocks = _read_parquet(files[0]) if files[0].suffix == ".parquet" else _read_matrix(*files)
    try:
        yield from blocks
    except (pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{files[0]} cannot be read as a table of embeddings: {reason}") from None


def _read_parquet(path: Path) -> Iterator[Block]:
    with pq.ParquetFile(path) as file:
        vector = _vector_column(path, file.schema_arrow)
        dim, start = None, 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[ID, vector]):
            lists = batch.column(vector).cast(pa.list_(pa.float64()))
            lengths = pc.list_value_length(lists)
            dim = dim or pc.max(lengths).as_py()
            other = pc.indices_nonzero(pc.fill_null(pc.not_equal(lengths, dim or 0), False))
            if len(other):
                row = other[0].as_py()
                raise InputError(
                    f"{path}: the vector of row {start + row + 1}, item {batch.column(ID)[row].as_py()!r}, has "
                    f"{lengths[row].as_py()} numbers, but others have {dim}"
                )
            start += len(batch)
            if dim:
                yield batch.column(ID).cast(pa.string()), _matrix(lists, dim)


def _vector_column(path: Path, schema: pa.Schema) -> str:
    if ID not in schema.names:
        raise InputError(f"{path} has no column `{ID}`.{nearest(ID, schema.names)} It has {schema.names}")
    kind = schema.field(ID).type
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_integer(kind)):
        raise InputError(f"{path}: the column `{ID}` holds {kind}. Cure: write text, or integers")
    lists = [field.name for field in schema if _is_vector(field.type)]
    if len(lists) != 1:
        raise InputError(f"{path} must have one column with lists of numbers, but has {lists or 'none'}")
    return lists[0]


def _is_vector(kind: pa.DataType) -> bool:
    if not (pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)):
        return False
    return pt.is_floating(kind.value_type) or pt.is_integer(kind.value_type)


def _matrix(lists: pa.Array, dim: int) -> np.ndarray:
    """Lists of `dim` numbers, or null, [n] -> float64 [n, dim]."""
    vectors = np.full((len(lists), dim), np.nan)
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    vectors[there] = pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors


def _read_matrix(path: Path, ids_path: Path) -> Iterator[Block]:
    matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise InputError(f"{path} must hold a matrix of numbers, one row an item")
    ids = ids_path.read_text(encoding="utf-8").split("\n")
    ids = ids[:-1] if ids[-1] == "" else ids
    if len(ids) != len(matrix):
        raise InputError(f"{path} has {len(matrix)} rows, but {ids_path} has {len(ids)} lines")
    for start in range(0, len(ids), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        yield pa.array(ids[block], pa.string()), matrix[block].astype(np.float64)
