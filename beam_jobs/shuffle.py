"""What passes a GroupByKey: names of files on this machine, as Beam's local runner keeps all that passes in memory.

Other runners keep it on disk, or on many machines, and are given the blocks themselves.
"""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from beam_jobs import blocks
from beam_jobs.runner import is_local
from pipeline.artifacts import Draft


@dataclass(frozen=True)
class Shuffle:
    """Turns tables into what passes a GroupByKey, and that into blocks. folder: of the files; None: blocks pass."""

    folder: str | None

    def put(self, table: pa.Table) -> bytes:
        """What to emit for a table."""
        if self.folder is None:
            return blocks.pack(table)
        path = Path(self.folder) / uuid.uuid4().hex
        path.write_bytes(blocks.pack(table, compression=None))
        return str(path).encode()

    def get(self, emitted: bytes) -> bytes:
        """The block of what was emitted."""
        return emitted if self.folder is None else Path(emitted.decode()).read_bytes()


@contextmanager
def shuffle(draft: Draft, pipeline_args: Sequence[str]) -> Iterator[Shuffle]:
    """The shuffle of one pipeline, in the folder of an artefact being written: a killed one goes with the artefact."""
    if not is_local(pipeline_args):
        yield Shuffle(None)
        return
    with tempfile.TemporaryDirectory(prefix="shuffle-", dir=draft.dir) as folder:
        yield Shuffle(folder)
