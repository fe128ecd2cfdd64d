"""A small bundle made by the real export from an untrained tower, and the logs it was made from."""

import functools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from table_fixtures import make_tables

from pipeline.artifacts import Artifact, Spec, create, open_artifact
from pipeline.catalogue import Vocabularies, field_file, item_table, user_table
from pipeline.config import Config
from pipeline.export import Sources, publish
from pipeline.export_neighbours import open_lists
from pipeline.sequences import SCHEMA, UserSequences
from pipeline.tables import EVENTS, FieldSchema, Schema, Tables
from pipeline.vocabulary import Vocabulary
from serving.bundle import KIND, VERSION, Bundle
from serving.retriever import Retriever
from towers.keras import keras
from towers.two_tower import TwoTower

ROOT = Path(__file__).resolve().parent.parent
ITEMS, TRAINED, USERS = 300, 260, 40
TITLE_NEIGHBOURS = 4
COLD_USER = "u39"
"""In the vocabulary, but without any event."""
CATEGORIES, INTERESTS, GENDERS = ["news", "film", "café"], ["a", "b", "c", "d"], ["f", "m", ""]
AGE_BOUNDARIES = [25.0, 40.0]
SCHEMA_OF_TABLES = Schema(
    item_fields=(
        FieldSchema("title", "title"),
        FieldSchema("category", "categorical"),
        FieldSchema("tags", "multi"),
        FieldSchema("price", "numeric"),
    ),
    user_fields=(
        FieldSchema("gender", "categorical"),
        FieldSchema("age", "numeric"),
        FieldSchema("interests", "multi"),
    ),
)


def item_id(index: int) -> str:
    """The id of item index 1 .. ITEMS; one of them is awkward on purpose."""
    return "odd/ id?#%ü" if index == 7 else f"i{index:03d}"


def user_id(index: int) -> str:
    """The id of user index 1 .. USERS."""
    return f"u{index - 1}"


def config(workdir: Path, name: str = "default", **export: object) -> Config:
    """The settings of the fixture's model, working in `workdir`."""
    return Config.model_validate(
        {
            "name": name,
            "workdir": str(workdir),
            "tower": {"embedding_dim": 8, "hidden": [16, 8], "history_length": 5},
            "export": {"recall_at": 50, "map_items": 60, **export},
        }
    )


def write_inputs(settings: Config) -> None:
    """Write the tables, vocabularies and user sequences."""
    items = {
        "item_id": [item_id(i) for i in range(1, ITEMS + 1)],
        "title": ["" if i % 50 == 0 else f"Title {i}" for i in range(1, ITEMS + 1)],
        "category": [CATEGORIES[i % 3] for i in range(ITEMS)],
        "tags": [[INTERESTS[j] for j in range(4) if i >> j & 1] for i in range(ITEMS)],
        "price": [None if i % 10 == 0 else float(i) for i in range(ITEMS)],
    }
    # The last user has no row: all values are missing.
    users = {
        "user_id": [user_id(i) for i in range(1, USERS)],
        "gender": [GENDERS[i % 3] for i in range(1, USERS)],
        "age": [None if i % 7 == 0 else 15.0 + i for i in range(1, USERS)],
        "interests": [[INTERESTS[j] for j in range(4) if i >> j & 1] for i in range(1, USERS)],
    }
    seen = [(u, item, time) for u in range(1, USERS + 1) for time, item in enumerate(history(u)) if item]
    columns = [[user_id(u) for u, _, _ in seen], [item_id(i) for _, i, _ in seen], [time for _, _, time in seen]]
    events = {"log": pa.table(columns, schema=EVENTS)}
    make_tables(settings.tables_dir, events, SCHEMA_OF_TABLES, pa.table(items), pa.table(users))
    _write_vocabularies(settings)
    _write_sequences(settings)
    write_neighbours(settings)


def _write_vocabularies(settings: Config) -> None:
    with create(settings.prepared_dir("vocabularies"), Spec("vocabularies", 1)) as draft:
        counts = [max(0, TRAINED - i) for i in range(ITEMS)]
        _write(draft.dir / "items.parquet", [item_id(i) for i in range(1, ITEMS + 1)], counts)
        _write(draft.dir / "users.parquet", [user_id(i) for i in range(1, USERS + 1)], [5] * USERS)
        _write(draft.dir / field_file("item", "category"), CATEGORIES, [100] * 3)
        _write(draft.dir / field_file("item", "tags"), [*INTERESTS, ""], [9] * 5)
        _write(draft.dir / field_file("user", "gender"), GENDERS, [13] * 3)
        # "d" was too rare to be known.
        _write(draft.dir / field_file("user", "interests"), ["c", "", "a", "b"], [9] * 4)
        boundaries = f'{{"item.price": [10.0, 100.0], "user.age": {AGE_BOUNDARIES}}}'
        (draft.dir / "numeric.json").write_text(boundaries, encoding="utf-8")


def _write(path: Path, values: list[str], counts: list[int]) -> None:
    Vocabulary(pa.array(values, pa.string()), np.array(counts)).write(path)


def history(user: int) -> list[int]:
    """The item indices of a user with index 1 .. USERS, oldest first, 0 = unknown; user 1 saw almost everything."""
    if user_id(user) == COLD_USER:
        return []
    if user == 1:
        return list(range(1, ITEMS - 20))
    return np.random.default_rng(user).integers(0, TRAINED + 1, 3 + user % 9).tolist()


def _write_sequences(settings: Config) -> None:
    users = [u for u in range(1, USERS + 1) if history(u)]
    items = [history(u) for u in users]
    columns = {
        "user": users,
        "items": items,
        "timestamps": [list(range(len(h))) for h in items],
        "train_end": [len(h) - 2 for h in items],
        "validation_end": [len(h) - 1 for h in items],
    }
    with create(
        settings.prepared_dir("user_sequences"),
        Spec("user_sequences", 1, config={"split": settings.split.model_dump()}),
    ) as draft:
        pq.write_table(pa.table(columns, schema=SCHEMA), draft.dir / "part-00000.parquet")


def near(index: int) -> dict[str, list[int]]:
    """The neighbours of item index 1 .. ITEMS by kind, nearest first: by session those after it, by title before it."""
    titled = index % 50 and index > 1
    before = [i for i in range(index - 1, 0, -1) if i % 50][:TITLE_NEIGHBOURS] if titled else []
    return {"session": list(range(index + 1, min(index + 7, ITEMS + 1))), "title": before}


def write_neighbours(settings: Config) -> None:
    """Write both kinds as `prepare` does: weights 6, 5, ... of sessions, cosines 0.9, 0.8, ... of titles."""
    everyone = range(1, ITEMS + 1)
    sessions = [near(i)["session"] for i in everyone]
    columns = {
        "item": pa.array(everyone, pa.int32()),
        "neighbours": pa.array(sessions, pa.list_(pa.int32())),
        "weights": pa.array([[6.0 - n for n in range(len(each))] for each in sessions], pa.list_(pa.float32())),
    }
    known = open_artifact(settings.prepared_dir("user_sequences"), "user_sequences", 1).fingerprint
    spec = Spec("session_cooccurrence", 1, {"user_sequences": known})
    with create(settings.prepared_dir(spec.kind), spec) as draft:
        pq.write_table(pa.table(columns), draft.dir / "part-00000.parquet")
    titles = [[], *(near(i)["title"] for i in everyone)]  # row 0 is the unknown item
    items = [each + [0] * (TITLE_NEIGHBOURS - len(each)) for each in titles]
    scores = [[0.9 - n / 10 if item else 0.0 for n, item in enumerate(each)] for each in items]
    columns = {
        "item_id": pa.array(["", *(item_id(i) for i in everyone)]),
        "neighbours": pa.array(items, pa.list_(pa.int32(), TITLE_NEIGHBOURS)),
        "scores": pa.array(scores, pa.list_(pa.float32(), TITLE_NEIGHBOURS)),
    }
    spec = Spec("title_neighbours", 2, config={"neighbours": TITLE_NEIGHBOURS})
    with create(settings.prepared_dir(spec.kind), spec) as draft:
        pq.write_table(pa.table(columns), draft.dir / "part-0000000000.parquet")


@functools.cache
def sources(workdir: Path) -> Sources:
    """The inputs of an export: tables, vocabularies and sequences written under `workdir`, and an untrained model."""
    settings = config(workdir)
    write_inputs(settings)
    tables, vocabularies = Tables.read(settings.tables_dir), Vocabularies.read(settings.prepared_dir("vocabularies"))
    keras.utils.set_random_seed(1)
    counts = np.concatenate(([0], vocabularies.items.counts))
    model = TwoTower(settings, item_table(tables, vocabularies), user_table(tables, vocabularies), counts)
    known = open_artifact(settings.prepared_dir("user_sequences"), "user_sequences", 1)
    sequences = UserSequences.from_artifact(known)
    return Sources(model, tables, vocabularies, sequences, open_lists(settings, known))


def make_bundle(workdir: Path, name: str = "default", **export: object) -> Artifact:
    """Publish a bundle under `workdir`."""
    settings = config(workdir, name, **export)
    return publish(settings.bundle_dir, Spec(KIND, VERSION), sources(workdir), settings.export)


def make_retriever(workdir: Path, name: str, **export: object) -> Retriever:
    """A retriever over a bundle published under `workdir`."""
    return Retriever(Bundle.open(make_bundle(workdir, name, **export).path))


@contextmanager
def running_server(bundle: Path, log: Path, **settings: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server as a process of its own, on a free port: its URL, read from the line it prints, and the process."""
    code = (
        "import json, sys; from pipeline.config_serve import ServeConfig; from serving.app import serve\n"
        "serve(sys.argv[1], ServeConfig(**json.loads(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(bundle), json.dumps({"port": 0, **settings})]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "://" in line, f"the server did not start: {log.read_text()}"
            yield line.split(" at ")[1].split(" ")[0], process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
