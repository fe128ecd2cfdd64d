"""Parquet as blocks of columns."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.progress import bar
from pipeline.rejects import Account, Block

BATCH_ROWS = 1 << 18


def read_names(path: Path, name: str) -> list[str]:
    """The column names. Raises InputError when the file is not Parquet."""
    try:
        return pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(name, error) from None


def read_parquet(path: Path, account: Account, wanted: Iterable[str]) -> Iterator[Block]:
    """Read the columns `wanted`; the line of a record is its row, from 1 on."""
    columns, row = list(dict.fromkeys(wanted)), 1
    try:
        with (
            pq.ParquetFile(path) as file,
            bar(total=file.metadata.num_rows, unit="row", desc=account.file, delay=1.0) as progress,
        ):
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield Block(
                    np.arange(row, row + len(batch)), {name: batch[name] for name in columns}, _content_of(batch)
                )
                row += len(batch)
                progress.update(len(batch))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(account.file, error) from None


def _content_of(batch: pa.RecordBatch) -> Callable[[np.ndarray], list[str]]:
    def content(rows: np.ndarray) -> list[str]:
        taken = pa.Table.from_batches([batch]).take(pa.array(rows)).to_pylist()
        return [json.dumps(row, ensure_ascii=False, default=str) for row in taken]

    return content


def _unreadable(name: str, error: Exception) -> InputError:
    reason = str(error).splitlines()[0]
    return InputError(f"{name} is not readable Parquet ({reason}). Cure: name a Parquet file, or write it again")
