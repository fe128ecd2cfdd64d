"""LibRecommender's own server over the users, the items and the vectors of a bundle.

It reads users from Redis, where its `embed2redis` puts them, and items from a FAISS file beside its code; both are
written here in its format, with the vectors that the bundle's tower gives the users. So it runs no tower.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
import redis

from benchmarks.environment import Environment
from benchmarks.load import Asked, Server
from benchmarks.measure import ROOT
from serving.bundle import Bundle

PINS = [
    *("LibRecommender==1.5.2", "sanic==25.12.1", "redis==8.1.0", "ujson==6.1.0"),
    *("faiss-cpu==1.15.1", "pydantic==2.14.3", "setuptools==80.*"),
]
ENVIRONMENT = Environment(ROOT / "work" / "serve_peers" / "librecommender", PINS)
LISTS = 80
"""Of its index, as `save_faiss_index` makes it."""
REDIS = 6379
"""Its server asks Redis here, and nowhere else."""
ASKED = Asked("/embed/recommend", '{"user":"', '","n_rec":%d}')


@contextmanager
def running(bundle: Bundle, users: dict[str, np.ndarray], probes: int) -> Iterator[Server]:
    """Its server; users: vectors float32 [D] by id. Raises RuntimeError when Redis' port is taken, or none starts."""
    ENVIRONMENT.install()
    if listening(REDIS):
        raise RuntimeError(f"LibRecommender's server needs a Redis of its own at port {REDIS}, which is taken")
    site = next((ENVIRONMENT.folder / "lib").glob("python*/site-packages/libserving"))
    faiss.write_index(index_of(bundle, probes), str(site / "faiss_index.bin"))
    folder = ENVIRONMENT.folder / "redis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    port = free_port()
    store = ["redis-server", "--port", str(REDIS), "--save", "", "--dir", str(folder)]
    app = ["-m", "sanic", "libserving.sanic_serving.embed_deploy:app", "--port", str(port), "--single-process"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(store, stdout=quiet, stderr=quiet) as kept:
        try:
            wait_for(REDIS)
            fill(bundle, users)
            environment = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
            command = [str(ENVIRONMENT.python), *app, "--no-access-logs"]
            with subprocess.Popen(command, env=environment, text=True, stdout=quiet, stderr=quiet) as process:
                try:
                    wait_for(port)
                    yield Server(f"http://127.0.0.1:{port}", process, (kept.pid,), ASKED)
                finally:
                    process.terminate()
        finally:
            kept.terminate()


def index_of(bundle: Bundle, probes: int) -> faiss.Index:
    """What its `save_faiss_index` makes."""
    vectors = bundle.index.vectors
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], LISTS, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = probes
    return index


def fill(bundle: Bundle, users: dict[str, np.ndarray]) -> None:
    """What its `embed2redis` writes: ids, vectors, and what each user has consumed."""
    names = bundle.items.ids.decode(bundle.item_indices)
    with redis.Redis(port=REDIS).pipeline(transaction=False) as pipe:
        pipe.hset("id2item", mapping=dict(enumerate(names)))
        for place, (user, vector) in enumerate(users.items()):
            seen = bundle.rows[bundle.users.history(bundle.users.index(user))]
            pipe.hset("user2id", user, place)
            pipe.hset("user_embed", str(place), json.dumps(vector.tolist()))
            pipe.hset("user_consumed", str(place), json.dumps(seen[seen >= 0].tolist()))
        pipe.execute()


def listening(port: int) -> bool:
    """Does anybody?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int) -> None:
    """Until somebody listens. Raises RuntimeError after half a minute."""
    until = time.monotonic() + 30
    while not listening(port):
        if time.monotonic() > until:
            raise RuntimeError(f"nothing listens at port {port}")
        time.sleep(0.1)


def free_port() -> int:
    """One that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
