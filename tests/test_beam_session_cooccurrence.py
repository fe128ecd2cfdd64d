"""beam_jobs/session_cooccurrence.py against brute force over sessions."""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, small_parts, write_log
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import session_cooccurrence
from pipeline.artifacts import Artifact
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.sequences import UserSequences


def prepare(config: Config, events: pd.DataFrame, *catalogue: object) -> Artifact:
    write_log(config, events, *catalogue)
    return run_through(config, "session_cooccurrence")


def sessions_of(config: Config) -> list[list[int]]:
    """Distinct known items of each session of train events, in order, longest allowed length applied."""
    read = UserSequences.read(config.prepared_dir("user_sequences"))
    session, found = config.prepare.session, []
    for row in range(len(read)):
        start, stop = read.offsets[row], read.offsets[row] + read.train_end[row]
        last = None
        for item, timestamp in zip(read.items[start:stop].tolist(), read.timestamps[start:stop].tolist(), strict=True):
            if last is None or timestamp - last > session.gap_seconds:
                found.append([])
            last = timestamp
            if item and item not in found[-1]:
                found[-1].append(item)
    return [items[: session.max_session_items] for items in found]


def neighbours(artifact: Artifact) -> dict[int, list[tuple[int, float]]]:
    read = {}
    for part in artifact.parts("part-"):
        for row in pq.read_table(part).to_pylist():
            assert row["item"] not in read
            read[row["item"]] = list(zip(row["neighbours"], row["weights"], strict=True))
    return read


def brute_force(config: Config, factors: dict[tuple[int, int], float] | None = None) -> dict:
    counts = Counter(pair for items in sessions_of(config) for pair in combinations(sorted(items), 2))
    weights: dict[int, list[tuple[int, float]]] = {}
    for (a, b), n in counts.items():
        weight = n * (factors or {}).get((a, b), 1.0)
        weights.setdefault(a, []).append((b, weight))
        weights.setdefault(b, []).append((a, weight))
    top = config.prepare.session.top_n
    return {item: sorted(found, key=lambda pair: (-pair[1], pair[0]))[:top] for item, found in weights.items()}


@pytest.mark.parametrize("session", [{"gap_seconds": 900}, {"gap_seconds": 3600, "top_n": 3, "max_session_items": 4}])
def test_the_whole_job(tmp_path, monkeypatch, session):
    small_parts(monkeypatch)
    config = small_config(tmp_path, prepare={"partitions": 3, "session": session})
    artifact = prepare(config, random_log(seed=13, events=600))
    expected = brute_force(config)
    assert neighbours(artifact) == expected
    longest = {**session, "max_session_items": 10_000, "top_n": 10_000}
    uncut = small_config(tmp_path, prepare={"partitions": 3, "session": longest})
    counts = artifact.counts
    assert counts["items_cut"] == sum(map(len, sessions_of(uncut))) - sum(map(len, sessions_of(config)))
    wide = small_config(tmp_path, prepare={"partitions": 3, "session": {**session, "top_n": 10_000}})
    assert counts["neighbours"] == sum(map(len, expected.values()))
    assert counts["neighbours"] + counts["neighbours_dropped"] == sum(map(len, brute_force(wide).values()))
    assert counts["pairs"] * 2 == counts["neighbours"] + counts["neighbours_dropped"]


@pytest.mark.parametrize("field", ["genre", "tags"])
def test_pairs_of_one_category_weigh_more(tmp_path, field):
    session = {"same_category_field": field, "same_category_factor": 3.0, "top_n": 6}
    config = small_config(tmp_path, prepare={"partitions": 3, "session": session})
    items, users = random_catalogue(seed=14)
    artifact = prepare(config, random_log(seed=14), SCHEMA, items, users)
    known = Vocabularies.read(config.prepared_dir("vocabularies")).items
    values = {
        known.index(item): set(v if isinstance(v, list) else [v]) - {"", None}
        for item, v in zip(items["item_id"], items[field], strict=True)
    }
    every = range(1, known.size)
    factors = {(a, b): 3.0 for a in every for b in every if values.get(a, set()) & values.get(b, set())}
    assert neighbours(artifact) == brute_force(config, factors)


def test_only_train_events_count(tmp_path):
    # The last two events are validation and test: c and d never co-occur with anything.
    events = pd.DataFrame({"user_id": ["u"] * 4, "item_id": ["a", "b", "c", "d"], "timestamp": [1, 2, 3, 4]})
    config = small_config(tmp_path, split={"min_events": 1})
    assert neighbours(prepare(config, events)) == {1: [(2, 1.0)], 2: [(1, 1.0)]}


def test_no_session_of_two_items_gives_an_empty_artefact(tmp_path):
    events = pd.DataFrame({"user_id": ["u", "v", "w"], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]})
    artifact = prepare(small_config(tmp_path, split={"min_events": 1}), events)
    assert neighbours(artifact) == {}
    assert artifact.counts["sessions"] == 3


def test_a_crawlers_session_is_cut(tmp_path):
    crawl = pd.DataFrame({"user_id": "crawler", "item_id": [f"i{n}" for n in range(100_000)], "timestamp": 5})
    config = small_config(tmp_path, split={"kind": "none"}, prepare={"max_user_events": 1_000_000})
    counts = prepare(config, crawl).counts
    assert (counts["sessions"], counts["sessions_cut"], counts["items_cut"]) == (1, 1, 99_800)
    assert counts["pairs"] == 200 * 199 // 2


def test_duplicating_every_user_doubles_the_weights(tmp_path):
    events = random_log(seed=15)
    twin = events.assign(user_id=events["user_id"] + "twin")
    # Without a split and with distinct timestamps the twins' sessions are the same.
    found = []
    for number, log in enumerate((events, pd.concat([events, twin]))):
        config = small_config(tmp_path / str(number), split={"kind": "none", "min_events": 1})
        artifact = prepare(config, log)
        known = Vocabularies.read(config.prepared_dir("vocabularies")).items
        found.append({(known.value(a), known.value(b)): w for a, row in neighbours(artifact).items() for b, w in row})
    assert found[1] == {pair: 2 * weight for pair, weight in found[0].items()}


def test_a_rerun_writes_identical_files(tmp_path):
    config = small_config(tmp_path)
    first = prepare(config, random_log(seed=16))
    (first.path / "MANIFEST.json").unlink()
    assert session_cooccurrence.run(config).fingerprint == first.fingerprint


@pytest.mark.parametrize("field", ["genres", "year", "item_id"])
def test_an_unfit_category_field_is_refused(tmp_path, field):
    config = small_config(tmp_path, prepare={"session": {"same_category_field": field}})
    with pytest.raises(ConfigError, match=r"same_category_field.*'genre', 'tags'"):
        prepare(config, random_log(seed=14), SCHEMA, *random_catalogue(seed=14))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.25, 1.0, 2.0, 3.0, 9.0])), max_size=40), st.integers(1, 4)
)
def test_contenders_hold_the_heaviest_of_every_item(rows, top_n):
    rows = sorted(rows, key=lambda row: row[0])
    item, weight = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows])
    found = session_cooccurrence.contenders(item, weight, top_n, level=0.25)
    assert found.tolist() == sorted(set(found.tolist()))
    for each in range(4):
        of_item = np.flatnonzero(item == each)
        if len(of_item):
            least = np.sort(weight[of_item])[::-1][:top_n].min()
            assert set(of_item[weight[of_item] >= least]) <= set(found.tolist())


def test_light_neighbours_of_an_item_with_many_are_no_contenders():
    item, weight = np.repeat([1, 2], [1000, 3]), np.concatenate((np.ones(990), np.full(10, 8.0), np.ones(3)))
    found = session_cooccurrence.contenders(item, weight, top_n=5, level=1)
    assert found.tolist() == [*range(990, 1003)]
