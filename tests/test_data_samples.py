"""pipeline/data_samples.py: what is compared, against pandas."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, write_log

from beam_jobs.day_events import Window
from pipeline import catalogue, drift
from pipeline.artifacts import Spec, create, open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.data_figures import days_of
from pipeline.data_samples import Log, compare_days, field_counts
from pipeline.drift import Sample
from pipeline.tables import Tables

LOG = random_log(seed=31, events=500, seconds=5 * 86_400)
ITEMS, USERS = random_catalogue(seed=32)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The vocabularies of LOG, cut by day."""
    config = small_config(tmp_path_factory.mktemp("samples"))
    write_log(config, LOG, SCHEMA, ITEMS, USERS, partition="day")
    run_through(config, catalogue.KIND)
    return config


@pytest.fixture(scope="module")
def tables(config: Config) -> Tables:
    return Tables.read(config.tables_dir)


def as_dict(counted: pa.Table) -> dict[str, int]:
    return {value: n for value, n in zip(*counted.to_pydict().values(), strict=True) if n}


def counted(values: pd.Series) -> pa.Table:
    counts = values.value_counts()
    return pa.table({"value": pa.array(counts.index.tolist()), "count": pa.array(counts.tolist(), pa.int64())})


def carried(ids: pd.Series, rows: dict[str, list], key: str, field: str) -> dict[str, int]:
    """How many of the events with these ids carry each value; "" where there is none."""
    values = dict(zip(rows[key], rows[field], strict=True))
    found: Counter[str] = Counter()
    for event in ids:
        value = values.get(event) or [""]
        found.update([value] if isinstance(value, str) else set(value))
    return dict(found)


def test_field_counts_are_of_events_not_items(tables):
    days = [LOG[:200], LOG[200:]]
    found = field_counts(tables, [counted(day["item_id"]) for day in days], [counted(day["user_id"]) for day in days])
    assert [set(fields) for fields in found] == [{"item.genre", "item.tags", "user.country"}] * 2
    for day, fields in zip(days, found, strict=True):
        assert as_dict(fields["item.genre"]) == carried(day["item_id"], ITEMS, "item_id", "genre")
        assert as_dict(fields["item.tags"]) == carried(day["item_id"], ITEMS, "item_id", "tags")
        assert as_dict(fields["user.country"]) == carried(day["user_id"], USERS, "user_id", "country")


def test_the_newest_day_is_compared_with_the_day_before(config, tables):
    date = pd.to_datetime(LOG["timestamp"], unit="s").dt.strftime("%Y-%m-%d")
    *_, before, newest = sorted(set(date))
    now, then = LOG[date == newest], LOG[date == before]
    found = compare_days(tables, days_of(Window.read(config)), seen_days=2)
    assert found[:2] == (newest, before)
    lines = {line.what: line for line in found[2]}
    assert (lines["events"].now, lines["events"].before) == (len(now), len(then))
    assert (lines["users"].now, lines["users"].before) == (now["user_id"].nunique(), then["user_id"].nunique())
    p, q = drift.aligned(counted(now["item_id"]), counted(then["item_id"]))
    assert lines["popularity of items"].value == pytest.approx(drift.jensen_shannon(p, q))
    assert lines["popularity of items"].chance is not None
    recent = LOG[(date < newest) & (date >= sorted(set(date))[-3])]
    assert lines["events on new items"].value == (~now["item_id"].isin(recent["item_id"])).mean()
    users = now["user_id"].drop_duplicates()
    assert lines["new users"].value == pytest.approx((~users.isin(recent["user_id"])).mean())


def test_a_log_is_of_train_events_and_kept_users(config, tables):
    vocabularies = Vocabularies.read(config.prepared_dir(catalogue.KIND))
    log = Log.of(tables, vocabularies)
    assert log.sample.events == len(LOG)
    assert log.sample.users == len(log.users) == len(vocabularies.users.values)
    assert sum(as_dict(log.sample.items).values()) == vocabularies.artifact.counts["train_events"]
    assert 0 not in log.sample.items["count"].to_pylist()
    genres = {"item.genre", "item.tags", "user.country"}
    assert set(log.sample.fields) == genres


def write(log: Log, folder: Path) -> Log:
    with create(folder, Spec("report", 1)) as draft:
        (draft.dir / "previous").mkdir()
        log.write(draft.dir / "previous")
    return Log.read(open_artifact(folder, "report", 1), "previous/")


def test_a_log_reads_back_as_it_was_written(config, tables, tmp_path):
    log = Log.of(tables, Vocabularies.read(config.prepared_dir(catalogue.KIND)))
    back = write(log, tmp_path / "report")
    assert np.array_equal(back.users, log.users)
    assert (back.sample.events, back.sample.users) == (log.sample.events, log.sample.users)
    assert as_dict(back.sample.items) == as_dict(log.sample.items)
    assert {name: as_dict(t) for name, t in back.sample.fields.items()} == {
        name: as_dict(t) for name, t in log.sample.fields.items()
    }
    assert {line.value for line in back.compare(log)} == {0.0}


def test_an_empty_log_reads_back_too(tmp_path):
    nothing = pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
    log = Log(Sample(0, 0, nothing, {"item.genre": nothing}), drift.id_sample(pa.array([], pa.string())))
    back = write(log, tmp_path / "report")
    assert len(back.sample.items) == len(back.users) == 0
