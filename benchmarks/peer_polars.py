"""The work of the Beam jobs in polars: the fastest expressions we found for each.

Strings are coded as integers before anything is sorted or joined, and hashed (in Python: polars has no sha1) only where
two events of a user tie.
"""

import hashlib
import json
import os
from pathlib import Path

from benchmarks.peer_task import THREADS, Task, main, write_matrix

os.environ["POLARS_MAX_THREADS"] = str(THREADS)

import polars as pl


def scan(paths: list[str]) -> pl.LazyFrame:
    """The rows of some Parquet files."""
    return pl.scan_parquet(paths, hive_partitioning=False)


def tie_breaker(users: pl.Series, items: pl.Series) -> pl.Series:
    """The sha1 of "user:item" of each row, as column `tie`."""
    hashes = [hashlib.sha1(f"{u}:{i}".encode()).hexdigest() for u, i in zip(users, items, strict=True)]
    return pl.Series("tie", hashes, dtype=pl.String)


# ---- vocabularies


def count_train(task: Task) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Users (user_id, n) and items with train events (item_id, count)."""
    events, of_item = scan(task.events), pl.len().cast(pl.Int64)
    users = events.group_by("user_id").agg(n=pl.len(), late=pl.col("timestamp").top_k(2).min())
    users = users.filter(pl.col("n") >= task.min_events).collect()
    # Only the events as late as a user's last two can be held out.
    late = events.join(users.lazy(), on="user_id").filter(pl.col("timestamp") >= pl.col("late")).collect()
    late = late.with_columns(tie_breaker(late["user_id"], late["item_id"]))
    late = late.sort("user_id", "timestamp", "tie", descending=[False, True, True])
    held = late.group_by("user_id", maintain_order=True).head(2)
    kept = events.join(users.lazy().select("user_id"), on="user_id", how="semi")
    counts = [kept.group_by("item_id").agg(n=of_item), held.lazy().group_by("item_id").agg(n=-of_item)]
    trained = pl.concat(counts).group_by("item_id").agg(count=pl.col("n").sum()).filter(pl.col("count") > 0)
    return users.select("user_id", "n"), trained.collect()


def vocabularies(task: Task, out: Path) -> None:
    """Items, users and field values with their counts, largest first; the bucket boundaries."""
    users, trained = count_train(task)
    items = scan([task.items]).select("item_id", count=pl.lit(0, pl.Int64))
    every = pl.concat([trained.lazy(), items]).group_by(value="item_id").agg(pl.col("count").sum())
    write_values(every, out / "items.parquet")
    write_values(users.lazy().select(value="user_id", count=pl.col("n") - 2), out / "users.parquet")
    for field in [*task.categorical, *task.multi]:
        values = scan([task.items]).select(value=field)
        if field in task.multi:
            values = values.select(pl.col("value").list.unique()).explode("value", empty_as_null=True)
        counted = values.group_by(pl.col("value").fill_null("")).agg(count=pl.len())
        write_values(counted, out / f"item.{field}.parquet")
    table = scan([task.items]).select(task.numeric).collect()
    numeric = {f"item.{field}": boundaries(task, table[field]) for field in task.numeric}
    (out / "numeric.json").write_text(json.dumps(numeric), encoding="utf-8")


def write_values(counted: pl.LazyFrame, path: Path) -> None:
    """Write values and counts as Parquet, largest first."""
    counted.sort("count", "value", descending=[True, False]).collect().write_parquet(path)


def boundaries(task: Task, values: pl.Series) -> list[float]:
    """The inner quantiles of some numbers, distinct and above the smallest."""
    numbers = values.drop_nulls().sort()
    places = [-(-bucket * (len(numbers) - 1) // task.buckets) for bucket in range(1, task.buckets)]
    chosen = {numbers[place] for place in places} if len(numbers) else set()
    return sorted(number for number in chosen if number > numbers[0])


# ---- user sequences


def ordered_events(task: Task) -> pl.DataFrame:
    """The events of kept users by user, timestamp and tie breaker: user, item (categories), timestamp."""
    ids = [pl.col("user_id").cast(pl.Categorical).alias("user"), pl.col("item_id").cast(pl.Categorical).alias("item")]
    events = scan(task.events).select(*ids, "timestamp").collect()
    kept = events.group_by("user").agg(n=pl.len()).filter(pl.col("n") >= task.min_events).select("user")
    events = events.join(kept, on="user", how="semi").sort(pl.col("user").to_physical(), "timestamp")
    user, timestamp = pl.col("user"), pl.col("timestamp")
    repeat = ((user == user.shift()) & (timestamp == timestamp.shift())).fill_null(False)
    tied = events.with_row_index("row").filter(repeat | repeat.shift(-1, fill_value=False))
    tie = tie_breaker(tied["user"].cast(pl.String), tied["item"].cast(pl.String))
    sorted_items = tied.with_columns(tie).sort(pl.col("user").to_physical(), "timestamp", "tie")["item"]
    in_place = pl.DataFrame({"row": tied["row"], "other": sorted_items})
    events = events.with_row_index("row").join(in_place, on="row", how="left", maintain_order="left")
    return events.select("user", pl.coalesce("other", "item").alias("item"), "timestamp")


def user_sequences(task: Task, out: Path) -> None:
    """One row per user: items and timestamps in order, where train and validation end; and the ids behind the codes."""
    events = ordered_events(task)
    write_ids(events["user"], out / "user_ids.parquet")
    write_ids(events["item"], out / "item_ids.parquet")
    codes = events.with_columns(pl.col("user", "item").to_physical())
    rows = codes.group_by("user", maintain_order=True).agg(items="item", timestamps="timestamp", n=pl.len())
    ends = {"train_end": pl.col("n") - 2, "validation_end": pl.col("n") - 1}
    rows.with_columns(**ends).drop("n").write_parquet(out / "user_sequences.parquet")


def write_ids(column: pl.Series, path: Path) -> None:
    """Write the strings behind the codes of a categorical column."""
    distinct = column.unique()
    pl.DataFrame({"code": distinct.to_physical(), "value": distinct.cast(pl.String)}).write_parquet(path)


# ---- session co-occurrence


def session_items(task: Task, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(session, code) of the distinct train items, capped; and the vocabulary (code, value) of these items."""
    user, timestamp = pl.col("user").to_physical(), pl.col("timestamp")
    new = (user != user.shift()) | (timestamp - timestamp.shift() > task.gap_seconds)
    train = (user == user.shift(-2)).fill_null(False)  # all but a user's last two
    events = events.with_columns(session=new.fill_null(True).cast(pl.UInt32).cum_sum(), train=train)
    events = events.filter("train").select("session", "item")
    counted = events.group_by("item").agg(n=pl.len()).with_columns(value=pl.col("item").cast(pl.String))
    vocabulary = counted.sort("n", "value", descending=[True, False]).with_row_index("code", offset=1)
    distinct = events.unique(keep="first", maintain_order=True)
    distinct = distinct.join(vocabulary.select("item", "code"), on="item", maintain_order="left")
    distinct = distinct.select("session", "code")
    long = distinct.group_by("session").agg(n=pl.len()).filter(pl.col("n") > task.max_session_items)
    cut = distinct.join(long, on="session", how="semi", maintain_order="left")
    cut = cut.group_by("session", maintain_order=True).head(task.max_session_items)
    sessions = pl.concat([distinct.join(long, on="session", how="anti"), cut])
    return sessions, vocabulary.select("code", "value")


def session_cooccurrence(task: Task, out: Path) -> None:
    """One row per item: the heaviest neighbours and their weights; and the ids behind the indices."""
    sessions, vocabulary = session_items(task, ordered_events(task))
    vocabulary.write_parquet(out / "item_ids.parquet")
    every = sessions.lazy().join(sessions.lazy(), on="session").filter(pl.col("code") < pl.col("code_right"))
    pairs = every.group_by("code", "code_right").agg(n=pl.len()).collect()
    directions = [("code", "code_right"), ("code_right", "code")]
    both = pl.concat([pairs.select(item=a, neighbour=b, n="n") for a, b in directions])
    ranked = both.sort("item", "n", "neighbour", descending=[False, True, False])
    top = ranked.group_by("item", maintain_order=True).head(task.top_n)
    rows = top.group_by("item", maintain_order=True).agg(neighbours="neighbour", weights=pl.col("n").cast(pl.Float32))
    rows.write_parquet(out / "session_cooccurrence.parquet")


# ---- mutual information


def mutual_information(task: Task, out: Path) -> None:
    """The matrix, over the catalogue and the items outside it that have train events."""
    ids = scan([task.items]).select("item_id")
    if task.corpus is None:
        outside = count_train(task)[1].lazy().join(ids, on="item_id", how="anti").select(pl.len()).collect().item()
    else:
        outside = (scan([task.corpus]).select(pl.len()).collect() - ids.select(pl.len()).collect()).item()
    single, multi = code_fields(task, outside)
    wide = {field: single.join(values, on="row") for field, values in multi.items()}

    def entropy(field: str) -> float:
        source, mass = (multi[field], pl.col("weight").sum()) if field in multi else (single, pl.len())
        return _entropy(source.lazy(), [field], mass)

    def joint(a: str, b: str) -> float:
        if a in multi:
            both = multi[a].lazy().join(multi[b].lazy(), on="row")
            return _entropy(both, [a, b], (pl.col("weight") * pl.col("weight_right")).sum())
        source, mass = (wide[b], pl.col("weight").sum()) if b in multi else (single, pl.len())
        return _entropy(source.lazy(), [a, b], mass)

    def log_values(field: str) -> float:
        # Of each of its k values an item has the weight 1 / k: they add up to log k.
        weight = pl.col("weight")
        return -multi[field].select((weight * weight.log()).sum()).item() if field in multi else 0.0

    write_matrix(out, [*task.single, *task.multi], len(single), entropy, joint, log_values)


def _entropy(source: pl.LazyFrame, by: list[str], mass: pl.Expr) -> float:
    m = pl.col("m")
    counted = source.group_by(by).agg(m=mass.cast(pl.Float64))
    return counted.select(m.sum().log() - (m * m.log()).sum() / m.sum()).collect().item()


def code_fields(task: Task, outside: int) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """(row, a code per single-valued field), and of each multi field (row, weight, code).

    outside: so many items have every value missing.
    """
    items = scan([task.items]).select(*task.single, *task.multi).collect()
    items = pl.concat([items, items.clear(outside)])
    codes = [pl.col(field).fill_null("").cast(pl.Categorical).to_physical() for field in task.categorical]
    for field in task.numeric:
        reached = [(pl.col(field) >= bound).cast(pl.Int32) for bound in boundaries(task, items[field])]
        codes.append(pl.sum_horizontal(*reached, ignore_nulls=False).fill_null(-1).alias(field))
    multi = {}
    for field in task.multi:
        sets = items.select(pl.col(field).fill_null([]).list.unique()).with_row_index("row")
        values = sets.with_columns(weight=1 / pl.col(field).list.len().clip(1)).explode(field, empty_as_null=True)
        multi[field] = values.with_columns(pl.col(field).fill_null("").cast(pl.Categorical).to_physical())
    return items.select(codes).with_row_index("row"), multi


if __name__ == "__main__":
    main(
        {
            "vocabularies": vocabularies,
            "user_sequences": user_sequences,
            "session_cooccurrence": session_cooccurrence,
            "mutual_information": mutual_information,
        }
    )
