"""Embedding tables sharded over parameter servers, for a catalogue that no single device holds.

Every task of the cluster runs the same command. The chief reads batches and hands each to a worker that is free; a
worker fetches the rows its batch needs from the servers, and sends their updates back, while others do the same: steps
overlap, and a step may begin before the one before it has ended. The negatives of a batch are its own.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from pipeline.cluster import Cluster
from pipeline.config import Config
from pipeline.devices import Batch, Done, OneDevice, Signature
from pipeline.errors import TrainingError, TrainingInterruptedError
from pipeline.progress import say
from towers.keras import tf
from towers.two_tower import TwoTower

IN_ADVANCE = 4
"""Steps handed out per worker before the oldest is waited for: enough that none is ever idle."""
LOOK_SECONDS = 1.0
"""How often one task looks whether another is still there, and how long it waits for an answer."""
PATIENCE = 5
"""Looks in vain before the other counts as gone."""


class _Coordinator(tf.distribute.coordinator.ClusterCoordinator):
    """Ends with the process: TensorFlow's own end of it waits for workers that are gone, as long as they are."""

    def __del__(self) -> None:
        pass


class ParameterServers(OneDevice):
    """The chief of such a cluster."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self.servers, self.shard_bytes = len(cluster.addresses["ps"]), config.train.shard_bytes
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
            self.shard_bytes, max_shards=self.servers
        )
        self.strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
        self.addresses, self.workers = cluster.addresses["ps"], cluster.addresses["worker"]
        self.coordinator = _Coordinator(self.strategy)
        self.under_way = IN_ADVANCE * len(cluster.addresses["worker"])

    def settings(self) -> dict[str, object]:
        """The optimiser has its state by shard."""
        return {"parameter_servers": self.servers, "shard_bytes": self.shard_bytes}

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Raises TrainingError when a server is gone, whatever the chief wanted of it then."""
        try:
            with self.strategy.scope():
                yield
        except TrainingInterruptedError:
            raise
        except Exception as error:
            gone = [f"ps {place} at {at}" for place, at in enumerate(self.addresses) if not _answers(at)]
            if not gone:
                raise
            raise TrainingError(
                f"parameter server {', '.join(gone)} is gone, and with it a part of the model. The last checkpoint is "
                "intact. Cure: see what it said last, then start all tasks again with `--resume`"
            ) from error

    def steps(self, model: TwoTower, signature: Signature) -> "RemoteSteps":
        tables = model.item_embeddings.tables
        shards = [f"{name} {len(getattr(table, 'variables', (table,)))}" for name, table in tables.items()]
        say(f"shards of the item tables on {self.servers} servers: {', '.join(shards)}")
        return RemoteSteps(self, model, signature)


class RemoteSteps:
    """Steps done by whichever worker is free; their results are taken in the order in which they were handed out."""

    def __init__(self, cluster: ParameterServers, model: TwoTower, signature: Signature) -> None:
        self.cluster, self.model = cluster, model
        self.waiting: deque[Any] = deque()
        self.number: int | None = None

        def on_worker(batch: Batch, number: tf.Tensor) -> dict[str, tf.Tensor]:
            return cluster.strategy.run(model.train_step, args=(batch, number))

        self.step = tf.function(on_worker, input_signature=[signature, tf.TensorSpec((), tf.int64)])

    def submit(self, batch: Batch, stop: bool) -> list[Done]:
        if self.number is None:
            self.number = int(self.model.optimizer.iterations)
        number, self.number = tf.constant(self.number, tf.int64), self.number + 1
        self.waiting.append(self.cluster.coordinator.schedule(self.step, args=(batch, number)))
        return self._results(self.cluster.under_way)

    def finish(self) -> list[Done]:
        return self._results(0)

    def _results(self, leave: int) -> list[Done]:
        done = []
        while len(self.waiting) > leave:
            results = self._fetch(self.waiting.popleft())
            done.append(Done(float(results["loss"]), float(results["gradient_norm"])))
        return done

    def _fetch(self, step: Any) -> dict[str, Any]:
        """The results of a step, which another worker does again when its own dies.

        TensorFlow waits an hour for workers when all are gone. Raises TrainingError after a few seconds.
        """
        results: Future[dict[str, Any]] = Future()
        threading.Thread(target=_complete, args=(results, step.fetch), daemon=True).start()
        missed = 0
        while missed < PATIENCE:
            try:
                return results.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                missed = 0 if any(map(_answers, self.cluster.workers)) else missed + 1
        raise TrainingError(
            "all workers of this run are gone. The last checkpoint is intact. Cure: see what they said last, then "
            "start all tasks again with `--resume`"
        )


def _complete(results: Future, get: Callable[[], Any]) -> None:
    try:
        results.set_result(get())
    except Exception as error:
        results.set_exception(error)


def serve(cluster: Cluster) -> None:
    """Be a worker or a parameter server until the chief, having been there, is gone."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tf.distribute.Server(resolver.cluster_spec(), cluster.role, cluster.place, protocol="grpc")
    say(f"{cluster} serves")
    chief = cluster.addresses["chief"][0]
    while not _answers(chief):
        time.sleep(LOOK_SECONDS)
    missed = 0
    while missed < PATIENCE:
        time.sleep(LOOK_SECONDS)
        missed = 0 if _answers(chief) else missed + 1
    say(f"{cluster} stops: the chief at {chief} is gone")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS):
            return True
    except OSError:
        return False
