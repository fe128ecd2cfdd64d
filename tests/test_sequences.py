"""pipeline/sequences.py: what a Beam job wrote in parts is one set of flat arrays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import Spec, create
from pipeline.errors import ArtifactError
from pipeline.sequences import KIND, SCHEMA, VERSION, UserSequences

ROWS = [
    {"user": 3, "items": [7, 0, 5], "timestamps": [10, 11, 12], "train_end": 1, "validation_end": 2},
    {"user": 1, "items": [4], "timestamps": [9], "train_end": 1, "validation_end": 1},
    {"user": 2, "items": [6, 6], "timestamps": [8, 8], "train_end": 0, "validation_end": 2},
]


def written(path: Path, *parts: list[dict[str, object]]) -> UserSequences:
    with create(path, Spec(KIND, VERSION)) as draft:
        for number, rows in enumerate(parts):
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), draft.dir / f"part-{number:05d}.parquet")
    return UserSequences.read(path)


@pytest.mark.parametrize("parts", [(ROWS,), (ROWS[:1], ROWS[1:]), (ROWS[2:], [], ROWS[:2])])
def test_parts_become_flat_arrays_in_user_order(tmp_path, parts):
    sequences = written(tmp_path / "s", *parts)
    assert len(sequences) == 3
    assert sequences.users.tolist() == [1, 2, 3]
    assert sequences.offsets.tolist() == [0, 1, 3, 6]
    assert sequences.items.tolist() == [4, 6, 6, 7, 0, 5]
    assert sequences.timestamps.tolist() == [9, 8, 8, 10, 11, 12]
    assert sequences.train_end.tolist() == [1, 0, 1]
    assert sequences.validation_end.tolist() == [1, 2, 2]


def test_dtypes_are_those_promised(tmp_path):
    sequences = written(tmp_path / "s", ROWS)
    dtypes = {name: array.dtype for name, array in vars(sequences).items()}
    assert dtypes == {
        "users": np.int32,
        "offsets": np.int64,
        "items": np.int32,
        "timestamps": np.int64,
        "train_end": np.int32,
        "validation_end": np.int32,
    }


def test_train_rows_are_the_events_before_each_train_end(tmp_path):
    assert written(tmp_path / "s", ROWS).train_rows().tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize("parts", [(), ([],)])
def test_no_users_is_an_empty_set(tmp_path, parts):
    sequences = written(tmp_path / "s", *parts)
    assert len(sequences) == 0
    assert sequences.offsets.tolist() == [0]
    assert sequences.train_rows().shape == (0,)


def test_a_user_without_events_is_kept(tmp_path):
    empty = {"user": 4, "items": [], "timestamps": [], "train_end": 0, "validation_end": 0}
    sequences = written(tmp_path / "s", [*ROWS, empty])
    assert sequences.offsets.tolist() == [0, 1, 3, 6, 6]
    assert sequences.train_rows().sum() == 2


def test_a_missing_artefact_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no user_sequences artefact"):
        UserSequences.read(tmp_path / "nowhere")
