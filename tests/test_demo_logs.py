"""The generated logs: reproducible, and with the structure they claim."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import file_digest
from pipeline.config import Config
from pipeline.config_source import DemoSourceConfig
from pipeline.demo_logs import SCHEMA, START, DemoLogs, generate
from pipeline.errors import ConfigError
from pipeline.importers import import_source
from pipeline.tables import EVENTS, Tables


@pytest.fixture(scope="module")
def logs() -> DemoLogs:
    return generate(DemoSourceConfig(users=1500, items=900, events=30_000, days=60, seed=3))


@pytest.fixture(scope="module")
def clicks(logs: DemoLogs) -> pd.DataFrame:
    """Events with the fields of their item and user, by user and time; `gap` is the time since the one before."""
    frame = logs.events.to_pandas().merge(logs.items.to_pandas()).merge(logs.users.to_pandas())
    frame = frame.sort_values(["user_id", "timestamp"]).reset_index(drop=True)
    frame["gap"] = frame.groupby("user_id").timestamp.diff()
    return frame


def mutual_information(a: pd.Series, b: pd.Series) -> float:
    joint = pd.crosstab(a, b, normalize=True).to_numpy()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def test_tables_have_the_canonical_types(logs: DemoLogs) -> None:
    assert logs.events.schema.equals(EVENTS)
    assert logs.items.schema.equals(SCHEMA.items())
    assert logs.users.schema.equals(SCHEMA.users())
    assert (logs.events.num_rows, logs.items.num_rows, logs.users.num_rows) == (30_000, 900, 1500)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        demo = {"users": 50, "items": 60, "events": 500, "days": 20, "seed": seed}
        config = Config.model_validate({"workdir": str(tmp_path / name), "source": {"format": "demo", "demo": demo}})
        artifact = import_source(config)
        assert artifact.counts["events"] == 500
        assert import_source(config).manifest == artifact.manifest
        tables = Tables.read(artifact.path)
        files = [*tables.event_parts, artifact.file("items.parquet"), artifact.file("users.parquet")]
        digests.append([file_digest(file) for file in files])
    assert digests[0] == digests[1]
    assert all(a != c for a, c in zip(digests[0], digests[2], strict=True))


def test_events_are_ordered_in_the_days_asked_for_and_without_repeats(logs: DemoLogs) -> None:
    frame = logs.events.to_pandas()
    assert frame.timestamp.is_monotonic_increasing
    assert frame.timestamp.min() >= START
    assert frame.timestamp.max() < START + 60 * 86_400
    assert not frame.duplicated(["user_id", "item_id"]).any()
    assert frame.user_id.isin(logs.users["user_id"].to_pylist()).all()


def test_item_fields_are_correlated(logs: DemoLogs) -> None:
    items = logs.items.to_pandas()
    named = items[items.brand != ""]
    entropy = mutual_information(named.category, named.category)
    assert mutual_information(named.category, named.brand) > 0.8 * entropy
    tags = items.explode("tags").dropna(subset="tags")
    assert mutual_information(tags.category, tags.tags) > 0.5 * entropy
    tier = pd.qcut(items.price, 8, labels=False)
    assert mutual_information(items.category, tier) > 0.2 * entropy


def test_titles_are_distinct_and_readable(logs: DemoLogs) -> None:
    items = logs.items.to_pandas()
    assert items.title.is_unique
    assert items.title.str.match(r"^[^\W\d_][\w &'é,-]+$").all()
    named = items[items.brand != ""]
    assert [title.startswith(brand) for title, brand in zip(named.title, named.brand, strict=True)] == [True] * len(
        named
    )


def test_popularity_is_heavy_headed_with_cold_items(logs: DemoLogs) -> None:
    counts = logs.events.to_pandas().item_id.value_counts().reindex(logs.items["item_id"].to_pylist(), fill_value=0)
    ordered = np.sort(counts.to_numpy())[::-1]
    assert 0.35 < ordered[:90].sum() / 30_000 < 0.7
    assert 0.04 <= (counts == 0).mean() < 0.15
    # In the middle of a Zipf curve, log(count) falls along a line in log(rank).
    ranks = np.arange(10, 300)
    assert -1.2 < np.polyfit(np.log(ranks), np.log(ordered[ranks]), 1)[0] < -0.4


def test_sessions_are_short_gaps_between_long_ones(clicks: pd.DataFrame) -> None:
    gaps = clicks.gap.dropna()
    assert ((gaps < 3600) | (gaps > 6 * 3600)).all()
    assert 0.5 < (gaps < 3600).mean() < 0.9


def test_a_session_stays_with_a_category_and_often_with_a_brand(clicks: pd.DataFrame) -> None:
    inside = clicks.gap < 3600
    same_category = (clicks.category == clicks.category.shift())[inside].mean()
    same_brand = ((clicks.brand == clicks.brand.shift()) & (clicks.brand != ""))[inside].mean()
    shuffled = clicks.category.sample(frac=1, random_state=0).to_numpy()
    assert same_category > 4 * (shuffled[1:] == shuffled[:-1]).mean()
    assert same_brand > 0.3


def test_users_have_several_interests_told_by_their_fields(clicks: pd.DataFrame) -> None:
    shares = pd.crosstab(clicks.user_id, clicks.category, normalize="index").to_numpy()
    strong = (shares > 0.15).sum(axis=1)
    assert {1, 2, 3} <= set(strong.tolist())
    region = mutual_information(clicks.region, clicks.category)
    assert mutual_information(clicks.age, clicks.category) > 5 * region
    assert mutual_information(clicks.gender, clicks.category) > 5 * region


def test_values_are_missing_now_and_then(logs: DemoLogs) -> None:
    items, users = logs.items.to_pandas(), logs.users.to_pandas()
    for share in (items.price.isna().mean(), (items.brand == "").mean(), *(users.iloc[:, 1:] == "").mean()):
        assert 0 < share < 0.08


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 2, 50, 1), (1, 30, 10, 5), (40, 5, 1000, 2)])
def test_tiny_sizes_work(sizes: tuple[int, int, int, int]) -> None:
    users, items, events, days = sizes
    logs = generate(DemoSourceConfig(users=users, items=items, events=events, days=days))
    assert 1 <= logs.events.num_rows <= min(events, users * items)
    assert (logs.items.num_rows, logs.users.num_rows) == (items, users)


def test_a_minimum_rating_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="minimum_rating"):
        import_source(Config.model_validate({"source": {"minimum_rating": 3}}))
