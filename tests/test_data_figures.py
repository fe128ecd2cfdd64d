"""pipeline/data_figures.py against pandas on the log that the artefacts were made of."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, write_log
from hypothesis import given
from hypothesis import strategies as st
from importer_fixtures import import_files

from beam_jobs import mutual_information, session_cooccurrence, user_sequences
from beam_jobs.day_events import Window
from pipeline import catalogue, data_figures
from pipeline.artifacts import open_artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.tables import Tables

GAP = 3600
LOG = random_log(seed=21, events=600, seconds=5 * 86_400)
ITEMS, USERS = random_catalogue(seed=22)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """All jobs but the titles', run over LOG."""
    config = small_config(tmp_path_factory.mktemp("figures"))
    write_log(config, LOG, SCHEMA, ITEMS, USERS)
    run_through(config, "session_cooccurrence")
    return config


@pytest.fixture(scope="module")
def tables(config: Config) -> Tables:
    return Tables.read(config.tables_dir)


@pytest.fixture(scope="module")
def vocabularies(config: Config) -> Vocabularies:
    return Vocabularies.read(config.prepared_dir(catalogue.KIND))


def kept() -> pd.DataFrame:
    """The events of users with enough of them, in order, and which are train."""
    log = LOG.sort_values(["user_id", "timestamp"], kind="stable")
    of_user = log.groupby("user_id")["item_id"].transform("size")
    log = log[of_user >= 5]
    left = log.groupby("user_id").cumcount(ascending=False)
    return log.assign(train=left >= 2)


def lengths_of_sessions() -> pd.Series:
    train = kept().query("train")
    pause = train.groupby("user_id")["timestamp"].diff() > GAP
    return train.groupby([train["user_id"], pause.groupby(train["user_id"]).cumsum()]).size()


# --- rows and days ---


def test_every_row_of_a_file_is_kept_filtered_or_refused(tmp_path: Path):
    rows = ["u,i,t,r", "a,x,10,5", "a,,20,5", "b,y,soon,5", "b,y,30,1", "", "b,x,40,5"]
    tables = import_files(
        tmp_path,
        {"clicks.csv": "\n".join(rows), "items.csv": "i\nx\nx\ny\n"},
        format="table",
        minimum_rating=2,
        table={"events": "clicks.csv", "items": "items.csv", "user_id": "u", "item_id": "i", "timestamp": "t"}
        | {"rating": "r"},
    )
    clicks, items = sorted(data_figures.source_rows(tables.artifact), key=lambda file: file["file"])
    assert clicks == {
        "file": "clicks.csv",
        "rows": 6,
        "kept": 2,
        "filtered": {"below_minimum_rating": 1, "blank_lines": 1},
        "refused": {"missing_item_id": 1, "unparsable_timestamp": 1},
    }
    assert (items["rows"], items["kept"], items["refused"]) == (3, 2, {"duplicate_item_id": 1})


@pytest.mark.parametrize("partition", ["none", "day"])
def test_events_are_counted_by_date(tmp_path, partition):
    config = small_config(tmp_path)
    write_log(config, LOG, partition=partition)
    run_through(config, "day_events")
    expected = pd.to_datetime(LOG["timestamp"], unit="s").dt.strftime("%Y-%m-%d").value_counts()
    found = data_figures.events_a_day(Window.read(config))
    assert found == expected.to_dict()
    assert list(found) == sorted(found)


# --- users and sessions ---


def test_histories_and_sessions_have_the_lengths_of_the_log(config):
    parts = open_artifact(config.prepared_dir(user_sequences.KIND), user_sequences.KIND, user_sequences.VERSION)
    found = data_figures.histories(parts.locations("part-"), GAP)
    users, sessions = kept().groupby("user_id").size(), lengths_of_sessions()
    assert found["users"] == data_figures.spread(Counter(users.tolist()))
    assert found["sessions"] == data_figures.spread(Counter(sessions.tolist()))
    counted = open_artifact(config.prepared_dir(session_cooccurrence.KIND), session_cooccurrence.KIND, 1).counts
    assert found["sessions"]["count"] == counted["sessions"]


def test_without_a_gap_only_users_are_told_of(config):
    parts = open_artifact(config.prepared_dir(user_sequences.KIND), user_sequences.KIND, user_sequences.VERSION)
    assert list(data_figures.histories(parts.locations("part-"), None)) == ["users"]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_a_spread_is_that_of_the_lengths(lengths):
    found = data_figures.spread(Counter(lengths))
    assert found["count"] == len(lengths)
    assert found["mean"] == pytest.approx(np.mean(lengths), abs=1e-3)
    assert found["median"] == np.quantile(lengths, 0.5, method="inverted_cdf")
    assert found["p90"] == np.quantile(lengths, 0.9, method="inverted_cdf")
    assert found["largest"] == max(lengths)
    inside = [sum(b["first"] <= n <= b["last"] for n in lengths) for b in found["bins"]]
    assert inside == [b["count"] for b in found["bins"]]
    assert sum(inside) == len(lengths)


def test_bins_double():
    bins = data_figures.spread(Counter({1: 1, 9: 2}))["bins"]
    assert [(b["first"], b["last"]) for b in bins] == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16)]
    assert [b["count"] for b in bins] == [1, 0, 0, 0, 2]


def test_a_spread_of_nothing_is_empty():
    assert data_figures.spread(Counter()) == {"count": 0, "bins": []}


# --- items ---


def test_the_head_is_the_most_frequent_tenth():
    found = data_figures.popularity(np.array([50, *[5] * 9, *[1] * 5, 0, 0]))
    assert (found["trained"], found["events"], found["head_items"]) == (15, 100, 2)
    assert found["head_share"] == 0.55
    assert (found["median"], found["once"]) == (5, 5)
    assert found["curve"][0] == [1, 50]
    assert found["curve"][-1] == [15, 1]


def test_a_long_curve_is_thinned_but_keeps_its_ends():
    counts = np.arange(10_000, 0, -1)
    curve = data_figures.popularity(counts)["curve"]
    assert len(curve) < 250
    assert (curve[0], curve[-1]) == ([1, 10_000], [10_000, 1])
    assert all(counts[rank - 1] == events for rank, events in curve)


def test_no_trained_item_has_no_curve():
    assert data_figures.popularity(np.zeros(3, np.int64)) == {"trained": 0, "curve": []}


def test_the_top_items_have_their_titles(tables, vocabularies):
    train = kept().query("train")["item_id"].value_counts()
    titles = dict(zip(ITEMS["item_id"], ITEMS["title"], strict=True))
    found = data_figures.top_items(vocabularies.items, tables)
    assert len(found) == data_figures.TOP_ITEMS
    assert [item["events"] for item in found] == sorted(train, reverse=True)[:20]
    assert all(item["events"] == train[item["id"]] for item in found)
    assert all(item["title"] == titles.get(item["id"], "") for item in found)


# --- fields ---


def test_the_coverage_of_fields_is_that_of_the_catalogue(tables, vocabularies):
    found = {(field["side"], field["name"]): field for field in data_figures.fields(tables, vocabularies)}
    genres = pd.Series(ITEMS["genre"]).replace("", None).value_counts()
    assert found["item", "genre"]["with_value"] == genres.sum()
    assert found["item", "genre"]["values"] == len(genres)
    assert dict(found["item", "genre"]["top"]) == genres.to_dict()
    tags = Counter(tag for tags in ITEMS["tags"] for tag in set(tags))
    assert found["item", "tags"]["with_value"] == sum(map(bool, ITEMS["tags"]))
    assert dict(found["item", "tags"]["top"]) == tags
    assert found["item", "title"]["with_value"] == sum(map(bool, ITEMS["title"]))
    years = pd.Series(ITEMS["year"], dtype=float).dropna()
    told = [found["item", "year"][name] for name in ("with_value", "min", "median", "max")]
    assert told == [len(years), years.min(), years.median(), years.max()]
    assert found["user", "country"]["rows"] == len(USERS["user_id"])


def test_without_vocabularies_only_what_the_catalogue_says_is_told(tables):
    fields = {field["name"]: field for field in data_figures.fields(tables, None)}
    assert "with_value" not in fields["genre"]
    assert fields["title"]["with_value"] == sum(map(bool, ITEMS["title"]))


def test_the_matrix_comes_with_its_names(config):
    matrix = open_artifact(config.prepared_dir(mutual_information.KIND), mutual_information.KIND, 1)
    assert data_figures.mutual_information(matrix)["fields"] == ["item_id", "genre", "tags", "year"]
