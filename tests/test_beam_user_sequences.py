"""beam_jobs/user_sequences.py against pandas."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from beam_fixtures import random_log, run_through, small_config, small_parts, write_log

from beam_jobs import user_sequences
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.errors import ArtifactError
from pipeline.sequences import UserSequences
from pipeline.split import cut


def prepare(config: Config, events: pd.DataFrame) -> tuple[UserSequences, Vocabularies]:
    write_log(config, events)
    run_through(config, "user_sequences")
    path = config.prepared_dir("user_sequences")
    return UserSequences.read(path), Vocabularies.read(config.prepared_dir("vocabularies"))


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    tie = [
        hashlib.sha1(f"{u}:{i}".encode()).hexdigest() for u, i in zip(events["user_id"], events["item_id"], strict=True)
    ]
    return events.assign(tie=tie).sort_values(["timestamp", "tie"])


@pytest.mark.parametrize("split", [{"min_events": 10}, {"kind": "none", "min_events": 1}])
def test_each_kept_user_has_all_events_in_order(tmp_path, monkeypatch, split):
    small_parts(monkeypatch)
    events = random_log(seed=6)
    read, known = prepare(small_config(tmp_path, split=split), events)
    expected = {u: rows for u, rows in in_order(events).groupby("user_id") if len(rows) >= split["min_events"]}
    assert known.users.decode(read.users).to_pylist() == sorted(expected, key=known.users.index)
    assert (np.diff(read.users) > 0).all()
    for row, user in enumerate(known.users.decode(read.users).to_pylist()):
        own = slice(read.offsets[row], read.offsets[row + 1])
        assert known.items.decode(read.items[own]).to_pylist() == expected[user]["item_id"].tolist()
        assert read.timestamps[own].tolist() == expected[user]["timestamp"].tolist()


@pytest.mark.parametrize(
    "split", [{"min_events": 5}, {"kind": "time", "test_start": "2023-11-15T05:00:00", "refit": True, "min_events": 1}]
)
def test_the_parts_agree_with_the_split_and_with_the_vocabularies(tmp_path, split):
    config = small_config(tmp_path, split=split)
    read, known = prepare(config, random_log(seed=7))
    train_end, validation_end = cut(read.timestamps, read.offsets, config.split)
    assert read.train_end.tolist() == train_end.tolist()
    assert read.validation_end.tolist() == validation_end.tolist()
    assert known.users.counts[read.users - 1].tolist() == read.train_end.tolist()
    trained = np.bincount(read.items[read.train_rows()], minlength=known.items.size)
    assert trained[1:].tolist() == known.items.counts.tolist()


def test_an_item_without_train_event_is_unknown(tmp_path):
    events = pd.DataFrame({"user_id": ["u"] * 4, "item_id": ["a", "b", "a", "late"], "timestamp": [1, 2, 3, 4]})
    read, known = prepare(small_config(tmp_path, split={"min_events": 1}), events)
    assert known.items.values.to_pylist() == ["a", "b"]
    assert read.items.tolist() == [1, 2, 1, 0]


def test_a_rerun_writes_identical_files(tmp_path):
    config = small_config(tmp_path)
    prepare(config, random_log(seed=8))
    first = user_sequences.run(config)
    (first.path / "MANIFEST.json").unlink()
    second = user_sequences.run(config)
    assert (first.fingerprint, sorted(first.manifest["files"])) == (
        second.fingerprint,
        sorted(second.manifest["files"]),
    )
    assert first.manifest["run"] != second.manifest["run"]


def test_the_number_of_partitions_changes_files_but_not_sequences(tmp_path):
    reads = []
    for partitions in (1, 4):
        config = small_config(tmp_path / str(partitions), prepare={"partitions": partitions})
        reads.append(prepare(config, random_log(seed=9))[0])
    for name, column in vars(reads[0]).items():
        assert column.tolist() == getattr(reads[1], name).tolist(), name


def test_row_groups_end_with_a_user(tmp_path, monkeypatch):
    monkeypatch.setattr(user_sequences, "EVENTS_PER_GROUP", 50)
    config = small_config(tmp_path, split={"min_events": 1}, prepare={"partitions": 1})
    read, _ = prepare(config, random_log(seed=10))
    file = pq.ParquetFile(config.prepared_dir("user_sequences") / user_sequences.run(config).parts("part-")[0])
    groups = [file.read_row_group(g) for g in range(file.num_row_groups)]
    assert sum(map(len, groups)) == len(read)
    assert 6 <= len(groups) <= 9  # 400 events


def test_a_log_whose_partitions_mostly_hold_dropped_users(tmp_path):
    events = pd.DataFrame({"user_id": ["u"] * 5 + [f"v{i}" for i in range(20)], "item_id": "a", "timestamp": range(25)})
    read, known = prepare(small_config(tmp_path), events)
    assert known.users.decode(read.users).to_pylist() == ["u"]
    assert len(read.items) == 5


def test_without_vocabularies_the_cure_is_named(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=8))
    run_through(config, "window_events")
    with pytest.raises(ArtifactError, match=r"no vocabularies artefact.*Cure"):
        user_sequences.run(config)
