"""pipeline/storage.py: the same promises on a local disk, in memory, and from an S3 server."""

import hashlib
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem
from s3fs.core import S3File
from upath import UPath

from beam_jobs import blocks
from beam_jobs.batch_files import metadata, read_batch, write_batches
from pipeline import storage
from pipeline.artifacts import Spec, current
from pipeline.errors import ConfigError, StorageError
from pipeline.storage import Location, locate, replace_text, write_part


def put_text(path: Location, text: str) -> None:
    write_part(path, lambda aside: Path(aside).write_text(text, encoding="utf-8"))


# --- what a text names ---


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("work/shop", Path("work/shop")),
        ("/srv/shop", Path("/srv/shop")),
        ("file:///srv/shop", Path("/srv/shop")),
        ("odd:name", Path("odd:name")),
    ],
)
def test_a_local_place_is_a_plain_path(text, path):
    assert locate(text) == path
    assert not storage.is_remote(locate(text))


def test_a_url_is_a_path_that_joins_and_names_as_a_local_one():
    path = locate("memory://shop/work") / "tables" / "part-0.parquet"
    assert storage.is_remote(path)
    assert (path.name, path.parent.name, str(path)) == (
        "part-0.parquet",
        "tables",
        "memory://shop/work/tables/part-0.parquet",
    )
    assert locate(str(path)) == path
    assert locate(path) is path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch://bucket/dir", "nosuch"),
        ("gs://bucket/dir", r"gcsfs.*Cure: install the fsspec driver of `gs://`"),
        ("file://relative/dir", "no absolute path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_cure(text, message):
    with pytest.raises(ConfigError, match=message):
        locate(text)


# --- writing and reading ---


def test_a_text_is_replaced(place):
    path = place / "deep" / "f.json"
    if isinstance(path, Path):
        path.parent.mkdir()
    for text in ("first", "größer"):
        replace_text(path, text)
        assert storage.read_text(path) == text
    assert storage.sizes(place) == {"deep/f.json": 8}


def test_a_part_appears_whole_and_is_replaced(place):
    for text in ("first", "again"):
        put_text(place / "date=2026-01-01" / "part-0", text)
    assert storage.sizes(place) == {"date=2026-01-01/part-0": 5}
    assert storage.read_text(place / "date=2026-01-01" / "part-0") == "again"


def test_a_part_may_be_named_by_text(place):
    write_part(f"{place}/part-0", lambda aside: Path(aside).write_text("x"))
    assert list(storage.sizes(place)) == ["part-0"]


def test_a_part_that_fails_half_way_leaves_the_old_one_and_no_rubble(place, tmp_path):
    put_text(place / "part-0", "old")

    def fail(aside: str) -> None:
        Path(aside).write_text("half", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_part(place / "part-0", fail)
    assert storage.read_text(place / "part-0") == "old"
    assert list(storage.sizes(place)) == ["part-0"]
    assert list(tmp_path.glob("cache/scratch/*/*")) == []


def test_a_digest_is_that_of_the_bytes_however_many_requests_it_takes(place, monkeypatch):
    monkeypatch.setattr(storage, "READ_AT_ONCE", 1 << 16)
    content = os.urandom(300_000)
    write_part(place / "f", lambda aside: Path(aside).write_bytes(content))
    assert storage.file_digest(place / "f") == hashlib.sha256(content).hexdigest()


def test_a_missing_file_stays_a_missing_file(place):
    for read in (storage.read_text, storage.file_digest):
        with pytest.raises(FileNotFoundError):
            read(place / "nothing")


# --- listing and removing ---


def test_a_folder_is_listed(place):
    for name in ("a", "deep/b", "run=1/c", "run=2/d/e"):
        put_text(place / name, name)
    assert storage.sizes(place) == {"a": 1, "deep/b": 6, "run=1/c": 7, "run=2/d/e": 9}
    assert [folder.name for folder in storage.subfolders(place, "run=")] == ["run=1", "run=2"]
    assert [path.name for path in storage.glob(place / "run=1", "?")] == ["c"]
    assert storage.sizes(place / "run") == {}


def test_where_there_is_no_folder_nothing_is_listed(place):
    nowhere = place / "nowhere"
    assert (storage.sizes(nowhere), storage.subfolders(nowhere, ""), storage.glob(nowhere, "*")) == ({}, [], [])


def test_what_is_removed_is_gone_and_its_neighbours_stay(place):
    for name in ("run=1/a/b", "run=1/c", "run=12/d", "e"):
        put_text(place / name, name)
    storage.remove(place / "run=1")
    storage.remove(place / "nothing")
    assert storage.sizes(place) == {"run=12/d": 8, "e": 1}
    storage.remove(place / "e")
    assert list(storage.sizes(place)) == ["run=12/d"]


def test_a_folder_is_untouched_once_its_youngest_file_is_old(place):
    put_text(place / "run=1/a", "a")
    assert storage.untouched(place / "run=1", timedelta(0))
    assert not storage.untouched(place / "run=1", timedelta(minutes=1))


def test_what_others_write_later_is_seen(place):
    """Listings are not remembered: a store has other writers."""
    folder, same = place / "shop", locate(str(place / "shop"))
    put_text(folder / "a", "a")
    assert list(storage.sizes(same)) == ["a"]
    put_text(folder / "b", "b")
    assert sorted(storage.sizes(same)) == ["a", "b"]


# --- Parquet ---

TABLE = pa.table({"user_id": ["b", "a", "b", "c"], "number": [1, 2, 3, 4]})


def test_row_groups_are_read_where_they_lie(place):
    paths = [place / f"part-{number}.parquet" for number in range(2)]
    for path in paths:
        write_part(path, lambda aside: pq.write_table(TABLE, aside, row_group_size=3))
    sources = blocks.row_groups(paths)
    assert sources == [(str(path), group) for path in paths for group in range(2)]
    read = [blocks.read_row_group(source, strings=["user_id"]) for source in sources[:2]]
    assert [table["number"].to_pylist() for table in read] == [[1, 2, 3], [4]]
    assert all(pa.types.is_dictionary(table["user_id"].type) for table in read)
    assert blocks.footer(paths[1]).num_rows == 4


def test_batches_are_read_where_they_lie(place):
    path, tables = place / "pairs.arrow", [TABLE, TABLE.slice(0, 0), TABLE.slice(1)]
    write_part(path, lambda aside: write_batches(aside, TABLE.schema, tables, {"rows": "7"}))
    assert [read_batch(str(path), number) for number in range(3)] == tables
    assert metadata(str(path)) == {"rows": "7"}


def test_of_a_remote_file_only_the_row_group_asked_for_is_read(bucket, monkeypatch):
    path, groups, rows = locate(bucket) / "log.parquet", 20, 50_000
    random = pa.array(np.random.default_rng(0).integers(0, 1 << 62, groups * rows))
    write_part(path, lambda aside: pq.write_table(pa.table({"n": random}), aside, row_group_size=rows))
    read: list[int] = []
    fetch = S3File._fetch_range

    def recording(self: S3File, start: int, end: int) -> bytes:
        read.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", recording)
    table = blocks.read_row_group((str(path), 7))
    assert table["n"].combine_chunks().equals(random[7 * rows : 8 * rows])
    assert sum(read) < 2 * storage.sizes(path.parent)["log.parquet"] / groups
    assert len(read) <= 3


# --- what the network does ---


def test_a_store_that_does_not_answer_is_named_with_the_cure(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    path = UPath(bucket, skip_instance_cache=True, config_kwargs={"retries": {"max_attempts": 0}})
    with pytest.raises(StorageError, match=r"cannot be reached.*Cure: check the network.*AWS_ENDPOINT_URL"):
        storage.read_text(path / "f")
    with pytest.raises(StorageError):  # not None, which would make the stage run
        current(path / "a", Spec("thing", 1))


def test_a_bucket_that_is_not_there_is_named_when_written_to(bucket):
    nowhere = locate(f"{bucket}-other")
    with pytest.raises(StorageError, match=r"other/f cannot be reached.*bucket does not exist"):
        replace_text(nowhere / "f", "x")
    with pytest.raises(StorageError, match=r"other/f cannot be reached.*bucket does not exist"):
        put_text(nowhere / "f", "x")
