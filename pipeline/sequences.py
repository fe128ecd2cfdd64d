"""User sequences in memory: one row per user, all rows in flat arrays."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts import Artifact, open_artifact
from pipeline.storage import Location

KIND, VERSION = "user_sequences", 1
SCHEMA = pa.schema(
    [
        ("user", pa.int32()),
        ("items", pa.list_(pa.int32())),
        ("timestamps", pa.list_(pa.int64())),
        ("train_end", pa.int32()),
        ("validation_end", pa.int32()),
    ]
)


@dataclass(frozen=True)
class UserSequences:
    """Each user's events in order, cut into train | validation | test.

    users: int32 [U], user indices, ascending. offsets: int64 [U + 1]. items: int32 [E], item indices, 0 unknown.
    timestamps: int64 [E], Unix seconds. train_end, validation_end: int32 [U], counted from offsets[u].
    """

    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    train_end: np.ndarray
    validation_end: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def read(cls, path: Location | str) -> "UserSequences":
        """Read the artefact written by beam_jobs/user_sequences.py."""
        return cls.from_artifact(open_artifact(path, KIND, VERSION))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "UserSequences":
        parts = artifact.parts("part-")
        table = pa.concat_tables([pq.read_table(p).cast(SCHEMA) for p in parts]) if parts else SCHEMA.empty_table()
        table = table.sort_by("user").combine_chunks()
        lengths = table["items"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        return cls(
            users=table["user"].to_numpy(),
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            items=table["items"].combine_chunks().flatten().to_numpy(),
            timestamps=table["timestamps"].combine_chunks().flatten().to_numpy(),
            train_end=table["train_end"].to_numpy(),
            validation_end=table["validation_end"].to_numpy(),
        )

    def train_rows(self) -> np.ndarray:
        """bool [E]: which events are train."""
        position = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return position < np.repeat(self.train_end, np.diff(self.offsets))
