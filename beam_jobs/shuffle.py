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
        block = blocks.pack(table, compression=None)
        if self.folder is None:
            sink = pa.BufferOutputStream()
            with pa.CompressedOutputStream(sink, blocks.COMPRESSION) as stream:
                stream.write(block)
            return sink.getvalue().to_pybytes()
        path = Path(self.folder) / uuid.uuid4().hex
        path.write_bytes(block)
        return str(path).encode()

    def get(self, emitted: bytes) -> bytes:
        """The block of what was emitted: the same bytes on every runner, so that blocks can be put in order by them."""
        if self.folder is None:
            return pa.input_stream(pa.py_buffer(emitted), compression=blocks.COMPRESSION).read()
        return Path(emitted.decode()).read_bytes()


@contextmanager
def shuffle(draft: Draft, pipeline_args: Sequence[str]) -> Iterator[Shuffle]:
    """The shuffle of one pipeline, in the folder of an artefact being written: a killed one goes with the artefact."""
    if not is_local(pipeline_args):
        yield Shuffle(None)
        return
    with tempfile.TemporaryDirectory(prefix="shuffle-", dir=draft.dir) as folder:
        yield Shuffle(folder)
