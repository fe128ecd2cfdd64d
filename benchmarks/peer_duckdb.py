"""The work of the Beam jobs in duckdb: the fastest statements we found for each.

Strings are coded as integers before anything is sorted or joined, and hashed only where two events of a user tie.
"""

import json
from pathlib import Path

import duckdb

from benchmarks.peer_task import THREADS, Task, main, write_matrix

ENTROPY = "SELECT ln(sum(m)) - sum(m * ln(m)) / sum(m) FROM (SELECT {mass}::DOUBLE AS m FROM {source} GROUP BY {by})"


def connect(task: Task) -> duckdb.DuckDBPyConnection:
    """A database with the views `events` and `items`."""
    database = duckdb.connect()
    database.execute(f"SET threads = {THREADS}")
    database.execute("SET preserve_insertion_order = false")
    for name, paths in (("events", task.events), ("items", [task.items])):
        database.execute(f"CREATE VIEW {name} AS FROM read_parquet({paths}, hive_partitioning = false)")
    return database


def write(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query as Parquet."""
    database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


# ---- vocabularies


def count_train(database: duckdb.DuckDBPyConnection, task: Task) -> None:
    """Make the tables users (user_id, n) and trained (item_id, count of train events)."""
    database.execute(
        "CREATE TABLE users AS SELECT user_id, count(*) AS n, list_min(max(timestamp, 2)) AS late "
        f"FROM events GROUP BY user_id HAVING n >= {task.min_events}"
    )
    # Only the events as late as a user's last two can be held out.
    database.execute(
        "CREATE TABLE held AS SELECT item_id FROM events JOIN users USING (user_id) WHERE timestamp >= late QUALIFY "
        "row_number() OVER (PARTITION BY user_id ORDER BY timestamp DESC, sha1(user_id || ':' || item_id) DESC) <= 2"
    )
    database.execute(
        "CREATE TABLE trained AS SELECT item_id, sum(n)::BIGINT AS count FROM ("
        "  SELECT item_id, count(*) AS n FROM events SEMI JOIN users USING (user_id) GROUP BY item_id"
        "  UNION ALL SELECT item_id, -count(*) FROM held GROUP BY item_id) GROUP BY item_id HAVING count > 0"
    )


def vocabularies(task: Task, out: Path) -> None:
    """Items, users and field values with their counts, largest first; the bucket boundaries."""
    database = connect(task)
    count_train(database, task)
    items = "SELECT item_id AS value, coalesce(count, 0) AS count FROM trained FULL JOIN items USING (item_id)"
    write(database, f"{items} ORDER BY count DESC, value", out / "items.parquet")
    users = "SELECT user_id AS value, n - 2 AS count FROM users ORDER BY count DESC, value"
    write(database, users, out / "users.parquet")
    for field in [*task.categorical, *task.multi]:
        counted = f"SELECT value, count(*) AS count FROM (SELECT {value_of(task, field)} AS value FROM items)"
        write(database, f"{counted} GROUP BY value ORDER BY count DESC, value", out / f"item.{field}.parquet")
    numeric = {f"item.{field}": boundaries(database, task, field) for field in task.numeric}
    (out / "numeric.json").write_text(json.dumps(numeric), encoding="utf-8")


def value_of(task: Task, field: str) -> str:
    """The values of a categorical or multi field, missing ones as ''."""
    return f"unnest({value_set(field)})" if field in task.multi else f"coalesce({field}, '')"


def value_set(field: str) -> str:
    """The distinct values of a multi field, [''] when there is none."""
    return f"CASE WHEN len({field}) = 0 THEN [''] ELSE list_distinct({field}) END"


def boundaries(database: duckdb.DuckDBPyConnection, task: Task, field: str) -> list[float]:
    """The inner quantiles of a field's numbers, distinct and above the smallest."""
    query = (
        f"WITH s AS (SELECT list_sort(list({field})) AS l FROM items WHERE {field} IS NOT NULL), "
        f"p AS (SELECT l, [(b * len(l) - b + {task.buckets - 1}) // {task.buckets} FOR b IN range(1, {task.buckets})] "
        "AS places FROM s) "
        "SELECT list_sort(list_distinct([x FOR x IN [l[1 + place] FOR place IN places] IF x > l[1]])) FROM p"
    )
    return database.execute(query).fetchall()[0][0]


# ---- user sequences


def code_events(database: duckdb.DuckDBPyConnection, task: Task) -> None:
    """Make the tables users (user_id, user, n), items_seen (item_id, item) and coded (user, item, timestamp, tie).

    tie: the sha1 of "user:item" where a user's timestamp repeats, '' elsewhere.
    """
    database.execute(
        "CREATE TABLE users AS SELECT user_id, row_number() OVER ()::INT AS user, count(*) AS n "
        f"FROM events GROUP BY user_id HAVING n >= {task.min_events}"
    )
    database.execute(
        "CREATE TABLE items_seen AS SELECT item_id, row_number() OVER ()::INT AS item FROM events GROUP BY item_id"
    )
    database.execute(
        "CREATE TABLE untied AS SELECT user, item, timestamp FROM events "
        "JOIN users USING (user_id) JOIN items_seen USING (item_id)"
    )
    database.execute(
        "CREATE TABLE tied AS WITH t AS (SELECT user, timestamp FROM untied GROUP BY ALL HAVING count(*) > 1) "
        "SELECT user, item, timestamp, sha1(user_id || ':' || item_id) AS tie FROM untied "
        "SEMI JOIN t USING (user, timestamp) JOIN users USING (user) JOIN items_seen USING (item)"
    )
    database.execute(
        "CREATE TABLE coded AS SELECT *, '' AS tie FROM untied ANTI JOIN tied USING (user, timestamp) "
        "UNION ALL FROM tied"
    )


def user_sequences(task: Task, out: Path) -> None:
    """One row per user: items and timestamps in order, where train and validation end; and the ids behind the codes."""
    database = connect(task)
    code_events(database, task)
    query = (
        "WITH s AS (SELECT user, list_sort(list({'t': timestamp, 'tie': tie, 'item': item})) AS l "
        "FROM coded GROUP BY user) "
        "SELECT user, [x.item FOR x IN l] AS items, [x.t FOR x IN l] AS timestamps, "
        "(len(l) - 2)::INT AS train_end, (len(l) - 1)::INT AS validation_end FROM s"
    )
    write(database, query, out / "user_sequences.parquet")
    write(database, "SELECT user AS code, user_id AS value FROM users", out / "user_ids.parquet")
    write(database, "SELECT item AS code, item_id AS value FROM items_seen", out / "item_ids.parquet")


# ---- session co-occurrence


def session_items(database: duckdb.DuckDBPyConnection, task: Task) -> None:
    """Make the tables vocabulary (index, item_id, item) and sessions (session, index): distinct train items, capped."""
    database.execute(
        "CREATE TABLE train AS SELECT item, place, "
        "  (user::BIGINT << 32) + sum(new) OVER (PARTITION BY user ORDER BY place) AS session "
        "FROM (SELECT user, item, n, row_number() OVER w AS place, "
        f"  (timestamp - lag(timestamp) OVER w <= {task.gap_seconds}) IS NOT TRUE AS new "
        "  FROM coded JOIN users USING (user) WINDOW w AS (PARTITION BY user ORDER BY timestamp, tie)) "
        "WHERE place <= n - 2"
    )
    database.execute(
        "CREATE TABLE vocabulary AS SELECT row_number() OVER (ORDER BY n DESC, item_id)::INT AS index, item, item_id "
        "FROM (SELECT item, count(*) AS n FROM train GROUP BY item) JOIN items_seen USING (item)"
    )
    database.execute(
        "CREATE TABLE uncut AS SELECT session, index, place FROM (SELECT session, item, min(place) AS place FROM train "
        "GROUP BY session, item) JOIN vocabulary USING (item)"
    )
    most = task.max_session_items
    database.execute(f"CREATE TABLE long AS SELECT session FROM uncut GROUP BY session HAVING count(*) > {most}")
    database.execute(
        "CREATE TABLE sessions AS SELECT session, index FROM uncut ANTI JOIN long USING (session) UNION ALL "
        "SELECT session, index FROM uncut SEMI JOIN long USING (session) "
        f"QUALIFY row_number() OVER (PARTITION BY session ORDER BY place) <= {most}"
    )


def session_cooccurrence(task: Task, out: Path) -> None:
    """One row per item: the heaviest neighbours and their weights; and the ids behind the indices."""
    database = connect(task)
    code_events(database, task)
    session_items(database, task)
    database.execute(
        "CREATE TABLE pairs AS SELECT (pair >> 32)::INT AS a, (pair & 4294967295)::INT AS b, n FROM ("
        "  SELECT (x.index::BIGINT << 32) | y.index AS pair, count(*) AS n FROM sessions x JOIN sessions y "
        "  ON x.session = y.session AND x.index < y.index GROUP BY pair)"
    )
    # One integer orders by weight, then by the smaller index; the n largest of integers is far cheaper than a window.
    write(
        database,
        "SELECT item, [(4294967295 - (x & 4294967295))::INT FOR x IN l] AS neighbours, "
        "[(x >> 32)::FLOAT FOR x IN l] AS weights "
        f"FROM (SELECT item, max((n << 32) + 4294967295 - neighbour, {task.top_n}) AS l FROM ("
        "  SELECT a AS item, b AS neighbour, n FROM pairs UNION ALL SELECT b, a, n FROM pairs) GROUP BY item)",
        out / "session_cooccurrence.parquet",
    )
    write(database, "SELECT index AS code, item_id AS value FROM vocabulary", out / "item_ids.parquet")


# ---- mutual information


def mutual_information(task: Task, out: Path) -> None:
    """The matrix, over the catalogue and the items outside it that have train events."""
    database = connect(task)
    if task.corpus is None:
        count_train(database, task)
        outside = "SELECT count(*) FROM trained ANTI JOIN items USING (item_id)"
    else:
        outside = f"SELECT (SELECT count(*) FROM read_parquet('{task.corpus}')) - count(*) FROM items"
    code_fields(database, task, int(database.execute(outside).fetchall()[0][0]))

    def value(query: str) -> float:
        return database.execute(query).fetchall()[0][0]

    def entropy(field: str) -> float:
        source, mass = (field, "sum(weight)") if field in task.multi else ("single", "count(*)")
        return value(ENTROPY.format(mass=mass, source=source, by=field))

    def joint(a: str, b: str) -> float:
        source, mass = "single", "count(*)"
        if a in task.multi:
            source, mass = f"{a} x JOIN {b} y USING (row)", "sum(x.weight * y.weight)"
        elif b in task.multi:
            source, mass = f"single JOIN {b} USING (row)", "sum(weight)"
        return value(ENTROPY.format(mass=mass, source=source, by=f"{a}, {b}"))

    def log_values(field: str) -> float:
        # Of each of its k values an item has the weight 1 / k: they add up to log k.
        return value(f"SELECT -sum(weight * ln(weight)) FROM {field}") if field in task.multi else 0.0

    items = int(value("SELECT count(*) FROM single"))
    write_matrix(out, [*task.single, *task.multi], items, entropy, joint, log_values)


def code_fields(database: duckdb.DuckDBPyConnection, task: Task, outside: int) -> None:
    """Make the tables single (row, a code per field) and, per multi field, (row, weight, code).

    outside: so many items have every value missing.
    """
    columns = [f"coalesce({field}, '') AS {field}" for field in task.categorical]
    for field in task.numeric:
        bucket = f"len(list_filter({boundaries(database, task, field)}, lambda x: x <= {field}))"
        columns.append(f"CASE WHEN {field} IS NULL THEN -1 ELSE {bucket} END AS {field}")
    columns += [f"{value_set(field)} AS {field}" for field in task.multi]
    missing = [*("''" for _ in task.categorical), *("-1" for _ in task.numeric), *("['']" for _ in task.multi)]
    database.execute(
        "CREATE TABLE corpus AS SELECT row_number() OVER ()::INT AS row, * FROM ("
        f"  SELECT {', '.join(columns)} FROM items UNION ALL SELECT {', '.join(missing)} FROM range({outside}))"
    )
    for field in task.categorical:
        database.execute(
            f"CREATE TABLE code_{field} AS SELECT {field}, row_number() OVER ()::INT AS code "
            f"FROM corpus GROUP BY {field}"
        )
    codes = [*(f"code_{field}.code AS {field}" for field in task.categorical), *task.numeric]
    joins = " ".join(f"JOIN code_{field} USING ({field})" for field in task.categorical)
    database.execute(f"CREATE TABLE single AS SELECT row, {', '.join(codes)} FROM corpus {joins}")
    for field in task.multi:
        database.execute(
            f"CREATE TABLE {field} AS WITH v AS (SELECT row, 1 / len({field}) AS weight, unnest({field}) AS value "
            "FROM corpus), c AS (SELECT value, row_number() OVER ()::INT AS code FROM v GROUP BY value) "
            f"SELECT row, weight, code AS {field} FROM v JOIN c USING (value)"
        )


if __name__ == "__main__":
    main(
        {
            "vocabularies": vocabularies,
            "user_sequences": user_sequences,
            "session_cooccurrence": session_cooccurrence,
            "mutual_information": mutual_information,
        }
    )
