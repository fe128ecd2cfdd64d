"""beam_jobs/vocabularies.py against pandas."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from beam_fixtures import SCHEMA, random_catalogue, random_log, run_through, small_config, small_parts, write_log
from hypothesis import example, given
from hypothesis import strategies as st

from beam_jobs import vocabularies
from pipeline.catalogue import Vocabularies
from pipeline.config import Config
from pipeline.errors import ConfigError, InputError
from pipeline.split import tie_breaker
from pipeline.vocabulary import Vocabulary

TIME = {"kind": "time", "validation_start": "2023-11-15T01:00:00", "test_start": "2023-11-15T05:00:00"}


def train_part(events: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The train events, one user at a time, as the split's docstring describes them."""
    split, parts = config.split, []
    for user, rows in events.groupby("user_id"):
        rows = rows.assign(tie=[tie_breaker(user, item) for item in rows["item_id"]]).sort_values(["timestamp", "tie"])
        if len(rows) < split.min_events:
            continue
        if split.kind == "leave_last_out" and len(rows) >= 3:
            rows = rows.iloc[: -1 if split.refit else -2]
        if split.kind == "time":
            bound = split.test_start if split.refit else split.validation_start
            rows = rows[rows["timestamp"] < pd.Timestamp(bound).timestamp()]
        parts.append(rows)
    return pd.concat(parts)


def as_dict(vocabulary: Vocabulary) -> dict[str, int]:
    return dict(zip(vocabulary.values.to_pylist(), vocabulary.counts.tolist(), strict=True))


@pytest.mark.parametrize(
    "split",
    [
        {"min_events": 8},
        {"min_events": 1, "refit": True},
        {**TIME, "min_events": 5},
        {**TIME, "min_events": 1, "refit": True},
        {"kind": "none", "min_events": 12},
    ],
)
def test_items_and_users_carry_their_train_events(tmp_path, monkeypatch, split):
    small_parts(monkeypatch)
    config = small_config(tmp_path, split=split)
    events = random_log(seed=2)
    items, users = random_catalogue(seed=2)
    write_log(config, events, SCHEMA, items, users)
    run_through(config, "vocabularies")
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    train = train_part(events, config)
    counts = {**dict.fromkeys(items["item_id"], 0), **Counter(train["item_id"])}
    assert as_dict(known.items) == counts
    kept = [user for user, n in Counter(events["user_id"]).items() if n >= config.split.min_events]
    assert as_dict(known.users) == {user: int((train["user_id"] == user).sum()) for user in kept}
    assert known.items.values.to_pylist() == sorted(counts, key=lambda value: (-counts[value], value))
    assert known.artifact.counts["train_events"] == len(train)
    assert known.artifact.counts["users_dropped"] == events["user_id"].nunique() - len(kept)
    assert known.artifact.counts["items_outside_catalogue"] == len(set(counts) - set(items["item_id"]))


def test_items_outside_the_catalogue_need_enough_events(tmp_path):
    config = small_config(tmp_path, split={"kind": "none", "min_events": 1}, prepare={"min_item_count": 3})
    events = pd.DataFrame({"user_id": ["u"] * 5, "item_id": ["rare", "rare", *["often"] * 3], "timestamp": range(5)})
    write_log(config, events, SCHEMA, *random_catalogue(seed=2, items=1))
    known = run_through(config, "vocabularies") and Vocabularies.read(config.prepared_dir("vocabularies"))
    assert as_dict(known.items) == {"often": 3, "i0": 0}
    assert known.artifact.counts["items_dropped"] == 1


def test_field_values_count_the_items_that_carry_them(tmp_path, monkeypatch):
    small_parts(monkeypatch, row_group=7)
    config = small_config(tmp_path, prepare={"partitions": 3, "min_value_count": 2})
    items, users = random_catalogue(seed=3)
    write_log(config, random_log(seed=3), SCHEMA, items, users)
    run_through(config, "vocabularies")
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    tags = Counter(tag for values in items["tags"] for tag in (set(values) or {""}))
    assert as_dict(known.item_fields["tags"]) == {value: n for value, n in tags.items() if n >= 2 or value == ""}
    assert as_dict(known.user_fields["country"]) == {c: n for c, n in Counter(users["country"]).items() if n >= 2}
    years = np.array([y for y in items["year"] if y is not None])
    assert known.boundaries["item.year"].tolist() == vocabularies.bucket_boundaries(years, 3).tolist()


def test_a_source_without_items_or_users_still_gives_every_vocabulary(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=4), SCHEMA)
    run_through(config, "vocabularies")
    known = Vocabularies.read(config.prepared_dir("vocabularies"))
    assert known.items.size > 1
    assert as_dict(known.item_fields["genre"]) == {"": 0}
    assert known.boundaries["item.year"].tolist() == []


def test_a_rerun_writes_identical_files_whatever_the_row_groups(tmp_path, monkeypatch):
    fingerprints = []
    for row_group in (1000, 32, 32):
        small_parts(monkeypatch, row_group)
        config = small_config(tmp_path / str(len(fingerprints)))
        write_log(config, random_log(seed=5), SCHEMA, *random_catalogue(seed=5))
        fingerprints.append(run_through(config, "vocabularies").fingerprint)
    assert len(set(fingerprints)) == 1


def test_a_current_artefact_is_not_written_again(tmp_path):
    config = small_config(tmp_path)
    write_log(config, random_log(seed=5))
    run_through(config, "vocabularies")
    assert vocabularies.run(config).manifest["run"] == vocabularies.run(config).manifest["run"]


def test_no_train_event_is_an_error_that_says_why(tmp_path):
    config = small_config(tmp_path, split={"min_events": 1000})
    write_log(config, random_log(seed=5))
    with pytest.raises(InputError, match="of 400 events, 0 users have 1000 or more"):
        run_through(config, "vocabularies")
    assert not (tmp_path / "prepared/vocabularies/MANIFEST.json").exists()


def test_an_impossible_split_is_refused_before_the_pipeline_runs(tmp_path):
    config = small_config(tmp_path, split={"kind": "time"})
    write_log(config, random_log(seed=5))
    with pytest.raises(ConfigError, match="test_start"):
        run_through(config, "vocabularies")


@given(st.lists(st.integers(-20, 20).map(float)), st.integers(1, 6))
@example([0.0, 1.0, -1.0, 2.0, -2.0, 3.0], 5)
def test_buckets_are_quantiles_of_the_numbers(numbers, buckets):
    column = np.array(numbers)
    boundaries = vocabularies.bucket_boundaries(column, buckets)
    assert set(boundaries) <= set(numbers)
    assert len(boundaries) < buckets
    sizes = np.bincount(np.searchsorted(boundaries, column, side="right"), minlength=len(boundaries) + 1)
    assert all(sizes) or not numbers
    if len(set(numbers)) == len(numbers) >= buckets:  # no repeats: as even as can be
        assert len(boundaries) == buckets - 1
        assert sizes.max() - sizes.min() <= 1


def test_the_command_line_runs_the_job(tmp_path, capsys):
    config = small_config(tmp_path, prepare={})
    write_log(config, random_log(seed=5))
    run_through(config, "catalogue_counts")
    assert vocabularies.main(vocabularies.run, ["--set", f"workdir={tmp_path}"]) == 0
    assert " train events, " in capsys.readouterr().err
    assert vocabularies.main(vocabularies.run, ["--set", f"workdir={tmp_path / 'nowhere'}"]) == 4
    assert "error: no tables artefact" in capsys.readouterr().err
