"""Generated logs of a shop, with the structure that real ones have, planted so that its traces can be looked for.

Items: category -> brand, price and tags -> title: most brands sell in one category, each leans to some of its
tags and to a price. Popularity falls as a power of the rank (Zipf); some items are never clicked, or hardly ever.
Users: one to four categories, drawn by age and gender (region means nothing). They come in sessions on days of
their own; a session stays with one of their categories and tends to go on with the brand just looked at. Within a
session less than an hour passes between events. Nobody clicks an item twice.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config_source import DemoSourceConfig, SourceConfig
from pipeline.demo_words import AGES, CATEGORIES, COMMON_TAGS, GENDERS, REGIONS
from pipeline.errors import ConfigError
from pipeline.source_files import SourceFiles
from pipeline.tables import EVENTS, FieldSchema, Schema
from pipeline.write_catalogue import CatalogueWriter
from pipeline.write_events import EventsWriter

GENERATOR_VERSION = 1
START = 1_704_067_200
"""2024-01-01, the first day."""

SCHEMA = Schema(
    (
        FieldSchema("title", "title"),
        FieldSchema("category", "categorical"),
        FieldSchema("brand", "categorical"),
        FieldSchema("price", "numeric"),
        FieldSchema("tags", "multi"),
    ),
    tuple(FieldSchema(name, "categorical") for name in ("age", "gender", "region")),
)

ZIPF_EXPONENT = 0.9
NEVER_CLICKED, HARDLY_CLICKED = 0.04, 0.06
"""Shares of the catalogue: the cold items."""
MISSING = 0.03
SAME_BRAND, ANY_ITEM = 0.45, 0.08
"""How often a click stays with the brand before it, and how often it has nothing to do with the user's interests."""
BRAND_SHARES, BRAND_PRICES = (0.4, 0.3, 0.2, 0.1), (0.9, 0.7, 1.3, 1.8)
"""Of the four brands of a category: how much of it they make, and their prices beside its median."""
INTEREST_NUMBERS, INTEREST_SHARES = (0.25, 0.35, 0.25, 0.15), (0.45, 0.27, 0.17, 0.11)
"""How many users have 1, 2, 3, 4 interests, and how often each comes up."""
MAX_INTERESTS, MAX_SESSION, MEAN_SESSION, MIN_DRAWS = 4, 20, 5, 8
OVERSAMPLING = (2.0, 4.0, 8.0)
"""Clicks drawn per event wanted, since repeated ones fall out; more when too many did."""
DAY = 86_400


@dataclass(frozen=True)
class DemoLogs:
    """The three tables, in the types of SCHEMA; events ordered by time."""

    events: pa.Table
    items: pa.Table
    users: pa.Table


@dataclass(frozen=True)
class _Items:
    """category, brand: int64 [n], the brand counted through all categories; weight: float64 [n], the popularity."""

    category: np.ndarray
    brand: np.ndarray
    weight: np.ndarray


class _Draw:
    """Draws items of one group (a category, a brand, everything) in proportion to their weight."""

    def __init__(self, group: np.ndarray, weight: np.ndarray) -> None:
        groups = int(group.max()) + 1
        self._order = np.argsort(group, kind="stable")
        self._ends = np.cumsum(weight[self._order])
        bounds = np.concatenate(([0.0], self._ends))[np.searchsorted(group[self._order], np.arange(groups + 1))]
        self._low, self._high = bounds[:-1], bounds[1:]

    def __call__(self, random: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """Groups [n], none of them empty -> items [n]."""
        low, high = self._low[groups], self._high[groups]
        place = np.searchsorted(self._ends, low + random.random(len(groups)) * (high - low), side="right")
        return self._order[np.minimum(place, len(self._order) - 1)]


def files(source: SourceConfig) -> SourceFiles:
    """An empty file, for the events: the logs are made, not read."""
    if source.minimum_rating is not None:
        raise ConfigError("`source.minimum_rating` has no use with `source.format: demo`: its events have no rating")
    return SourceFiles({}, {"demo": Path(os.devnull)})


def settings(source: SourceConfig) -> dict[str, Any]:
    """What the generated logs depend on."""
    return {"demo": source.demo.model_dump(), "generator": GENERATOR_VERSION}


def read_catalogue(writer: CatalogueWriter, found: dict[str, Path], source: SourceConfig) -> None:
    """Write the generated items and users."""
    logs = generate(source.demo)
    writer.write(SCHEMA, logs.items, logs.users)


def read_events(writer: EventsWriter, path: Path, source: SourceConfig) -> None:
    """Write the generated events."""
    events = generate(source.demo).events
    writer.account.outcome.kept = len(events)
    writer.add(events)


def generate(config: DemoSourceConfig) -> DemoLogs:
    """The logs of `config`: the same sizes and seed give the same tables. A small catalogue gives fewer events."""
    random = np.random.default_rng(config.seed)
    items, item_table = _items(random, config.items)
    interests, user_table = _users(random, config.users, items)
    for oversampling in OVERSAMPLING:
        users, clicked, times = _events(random, config, items, interests, oversampling)
        if len(times) == config.events:
            break
    columns = (user_table["user_id"].take(pa.array(users)), item_table["item_id"].take(pa.array(clicked)))
    return DemoLogs(pa.table([*columns, pa.array(times)], schema=EVENTS), item_table, user_table)


def _items(random: np.random.Generator, n: int) -> tuple[_Items, pa.Table]:
    share = np.linspace(1.5, 0.5, len(CATEGORIES))
    category = random.choice(len(CATEGORIES), n, p=share / share.sum())
    # Brands belong to a category; one item in twenty is sold outside it.
    home = np.where(random.random(n) < 0.05, random.integers(0, len(CATEGORIES), n), category)
    line = random.choice(len(BRAND_SHARES), n, p=BRAND_SHARES)
    price = np.array([c.price for c in CATEGORIES])[category] * np.array(BRAND_PRICES)[line]
    price = np.round(price * np.exp(random.normal(0.0, 0.25, n)), 2)
    brands = [CATEGORIES[h].brands[i] for h, i in zip(home, line, strict=True)]
    table = pa.table(
        {
            "item_id": _ids("i", n),
            "title": _titles(random, category, brands),
            "category": [CATEGORIES[c].name for c in category],
            "brand": _with_gaps(random, brands),
            "price": pa.array(price, mask=random.random(n) < MISSING),
            "tags": _tags(random, category, line),
        },
        schema=SCHEMA.items(),
    )
    return _Items(category, home * len(BRAND_SHARES) + line, _popularity(random, n)), table


def _titles(random: np.random.Generator, category: np.ndarray, brands: list[str]) -> list[str]:
    """A title an item, in the words of its category; repeats are numbered."""
    seen: Counter[str] = Counter()
    titles = []
    for c, brand, pick in zip(category, brands, random.random((len(brands), 2)), strict=True):
        qualities, things = CATEGORIES[c].qualities, CATEGORIES[c].things
        title = f"{brand} {qualities[int(pick[0] * len(qualities))]} {things[int(pick[1] * len(things))]}"
        seen[title] += 1
        titles.append(title if seen[title] == 1 else f"{title}, Edition {seen[title]}")
    return titles


def _tags(random: np.random.Generator, category: np.ndarray, line: np.ndarray) -> list[list[str]]:
    """Tags of the category, two of them favoured by the brand; now and then a tag that fits anything."""
    chance = np.full((len(BRAND_SHARES), len(CATEGORIES[0].tags) + len(COMMON_TAGS)), 0.12)
    for i in range(len(BRAND_SHARES)):
        chance[i, 2 * i : 2 * i + 2] = 0.6
    chance[:, -len(COMMON_TAGS) :] = 0.06
    carried = random.random((len(category), chance.shape[1])) < chance[line]
    names = [(*c.tags, *COMMON_TAGS) for c in CATEGORIES]
    return [[names[c][t] for t in np.flatnonzero(row)] for c, row in zip(category, carried, strict=True)]


def _popularity(random: np.random.Generator, n: int) -> np.ndarray:
    """The weight of each item, float64 [n]: Zipf over a random ranking, but for the cold items."""
    weight = (random.permutation(n) + 1.0) ** -ZIPF_EXPONENT
    order = random.permutation(n)
    never, hardly = int(n * NEVER_CLICKED), int(n * HARDLY_CLICKED)
    weight[order[:never]] = 0.0
    weight[order[never : never + hardly]] *= 0.002
    return weight


def _users(random: np.random.Generator, n: int, items: _Items) -> tuple[np.ndarray, pa.Table]:
    """Interests, int64 [n, MAX_INTERESTS]: categories, the first ones coming up more often; and the users table."""
    age, gender, region = (random.integers(0, len(names), n) for names in (AGES, GENDERS, REGIONS))
    taste = random.normal(0.0, 1.0, (len(AGES), len(CATEGORIES)))[age]
    taste += random.normal(0.0, 1.0, (len(GENDERS), len(CATEGORIES)))[gender]
    sold = np.bincount(items.category, items.weight, len(CATEGORIES)) > 0
    keys = np.where(sold, taste + random.gumbel(size=taste.shape), -np.inf)  # (n, categories)
    ranked = np.argsort(-keys, axis=1, kind="stable")[:, :MAX_INTERESTS]
    number = np.minimum(random.choice(MAX_INTERESTS, n, p=INTEREST_NUMBERS) + 1, sold.sum())
    # Interests beyond a user's number repeat the earlier ones.
    interests = np.take_along_axis(ranked, np.arange(MAX_INTERESTS) % number[:, None], axis=1)
    table = pa.table(
        {
            "user_id": _ids("u", n),
            "age": _with_gaps(random, [AGES[i] for i in age]),
            "gender": _with_gaps(random, [GENDERS[i] for i in gender]),
            "region": _with_gaps(random, [REGIONS[i] for i in region]),
        },
        schema=SCHEMA.users(),
    )
    return interests, table


def _events(
    random: np.random.Generator, config: DemoSourceConfig, items: _Items, interests: np.ndarray, oversampling: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, item and Unix second of each event, int64 [events], ordered by time."""
    owner, day, length = _sessions(random, config, oversampling)
    topic = interests[owner, random.choice(MAX_INTERESTS, len(owner), p=INTEREST_SHARES)]
    clicked, times = _clicks(random, items, topic, START + day * DAY, length)
    inside = np.arange(MAX_SESSION) < length[:, None]  # (sessions, MAX_SESSION)
    users = np.repeat(owner, length)
    clicked, times = clicked[inside], times[inside]
    order = np.lexsort((clicked, users, times))
    users, clicked, times = users[order], clicked[order], times[order]
    kept = np.sort(np.unique(users * config.items + clicked, return_index=True)[1])
    if len(kept) > config.events:
        kept = np.sort(random.choice(kept, config.events, replace=False))
    return users[kept], clicked[kept], times[kept]


def _sessions(
    random: np.random.Generator, config: DemoSourceConfig, oversampling: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner, day and length of each session, int64 [sessions]; a user's sessions lie on different days."""
    activity = random.lognormal(0.0, 0.7, config.users)
    draws = np.maximum(MIN_DRAWS, np.ceil(activity / activity.sum() * config.events * oversampling)).astype(np.int64)
    sessions = np.clip(draws // MEAN_SESSION, 1, config.days)
    owner = np.repeat(np.arange(config.users), sessions)
    first = np.cumsum(sessions) - sessions
    number = np.arange(len(owner)) - first[owner]
    # Session k of s falls into the k-th of s equal stretches of days.
    start, end = (k * config.days // sessions[owner] for k in (number, number + 1))
    day = start + (random.random(len(owner)) * (end - start)).astype(np.int64)
    drawn = np.repeat(np.arange(config.users), draws)
    session = first[drawn] + (random.random(len(drawn)) * sessions[drawn]).astype(np.int64)
    return owner, day, np.minimum(np.bincount(session, minlength=len(owner)), MAX_SESSION)


def _clicks(
    random: np.random.Generator, items: _Items, topic: np.ndarray, midnight: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Items and times of all sessions, int64 [sessions, MAX_SESSION]; from a session's length on they mean nothing."""
    by_category, by_brand = _Draw(items.category, items.weight), _Draw(items.brand, items.weight)
    anything = _Draw(np.zeros(len(items.weight), dtype=np.int64), items.weight)
    clicked = np.zeros((len(topic), MAX_SESSION), dtype=np.int64)
    gaps = 15 + np.minimum(random.exponential(90.0, clicked.shape), 600.0).astype(np.int64)
    opening = midnight + random.integers(7 * 3600, 20 * 3600, len(topic))
    for step in range(int(length.max())):
        active = np.flatnonzero(length > step)
        choice = by_category(random, topic[active])
        if step > 0:
            stays = random.random(len(active)) < SAME_BRAND
            choice[stays] = by_brand(random, items.brand[clicked[active[stays], step - 1]])
        strays = random.random(len(active)) < ANY_ITEM
        choice[strays] = anything(random, np.zeros(int(strays.sum()), dtype=np.int64))
        clicked[active, step] = choice
    return clicked, opening[:, None] + np.cumsum(gaps, axis=1)


def _with_gaps(random: np.random.Generator, values: list[str]) -> list[str]:
    """The values, some of them missing."""
    return ["" if gone else value for value, gone in zip(values, random.random(len(values)) < MISSING, strict=True)]


def _ids(letter: str, n: int) -> list[str]:
    width = len(str(n))
    return [f"{letter}{i:0{width}d}" for i in range(1, n + 1)]
