"""Where a run trains: one device, several of this machine, several machines (tf.distribute).

The program is the same on each: a step is one function of a batch, and only the chief writes anything.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol, TypeVar

from pipeline.cluster import Cluster
from pipeline.config import Config
from pipeline.errors import ConfigError, TrainingError
from ssl_tasks.registry import TASKS
from towers import replicas
from towers.keras import tf
from towers.two_tower import TwoTower

Batch = Mapping[str, "tf.Tensor"]
Signature = Mapping[str, "tf.TensorSpec"]
Result = TypeVar("Result")

PEER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What a collective op raises when the other end of it is gone; which of them depends on the moment."""


class Done(NamedTuple):
    """A step that is over. stop: whether another process of the run, or this one, was asked to stop before it."""

    loss: float
    gradient_norm: float
    stop: bool = False


class Steps(Protocol):
    """Runs the steps of a model in their order."""

    def submit(self, batch: Batch, stop: bool) -> list[Done]:
        """Begin a step. stop: whether this process was asked to stop. Returns: the steps that are over now."""

    def finish(self) -> list[Done]:
        """Wait for the steps that are under way."""


class OneDevice:
    """What TensorFlow chooses by itself: the first GPU, or the processor.

    part: (number of this worker, number of workers); a batch is shared out between them. chief: whether this process
    is the one that writes.
    """

    part = (0, 1)
    chief = True

    def settings(self) -> dict[str, object]:
        """What a checkpoint depends on."""
        return {}

    def scope(self) -> AbstractContextManager[object]:
        """Where the model is made and used."""
        return nullcontext()

    @property
    def alone(self) -> bool:
        """Whether no other process goes through the same program."""
        return self.part[1] == 1

    def check(self, config: Config) -> None:
        """Refuse what these devices cannot train. Raises ConfigError."""

    def steps(self, model: TwoTower, signature: Signature) -> Steps:
        # One signature, so that the graph of a step does not depend on which batch came first.
        return StepsHere(tf.function(model.train_step, input_signature=[signature]))

    def from_chief(self, get: Callable[[], float]) -> float:
        """What the chief alone computes, known to all. Raises TrainingError when a worker is gone."""
        return get()


class StepsHere:
    """Each step is over when `submit` returns."""

    def __init__(self, step: Callable[[Batch], Mapping[str, tf.Tensor]]) -> None:
        self.step = step

    def submit(self, batch: Batch, stop: bool) -> list[Done]:
        results = self.step(batch)
        return [Done(float(results["loss"]), float(results["gradient_norm"]))]

    def finish(self) -> list[Done]:
        return []


class Mirrored(OneDevice):
    """Every device has all variables, and a share of each batch; see towers/replicas.py."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy

    def scope(self) -> AbstractContextManager[object]:
        return self.strategy.scope()

    def check(self, config: Config) -> None:
        count = self.strategy.num_replicas_in_sync
        for name in TASKS:
            task = getattr(config.tasks, name)
            if task.weight > 0 and task.batch_size < count:
                raise ConfigError(
                    f"`tasks.{name}.batch_size` is {task.batch_size}, to be shared out between {count} devices. "
                    "Cure: a larger one, or fewer devices"
                )

    def steps(self, model: TwoTower, signature: Signature) -> Steps:
        def everywhere(batch: Batch) -> dict[str, tf.Tensor]:
            return self._first(self.strategy.run(model.train_step, args=(batch,)))

        return StepsHere(tf.function(everywhere, input_signature=[signature]))

    def _first(self, results: Mapping[str, object]) -> dict[str, tf.Tensor]:
        """Of values that all replicas have alike."""
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in results.items()}


class Workers(Mirrored):
    """Several processes, on as many machines, each with its own devices; started one by one with TF_CONFIG."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster) -> None:
        super().__init__(strategy)
        self.part = (cluster.number, cluster.workers)
        self.chief = cluster.number == 0
        self._sum = tf.function(self._summed, input_signature=[tf.TensorSpec((), tf.float64)])

    def steps(self, model: TwoTower, signature: Signature) -> Steps:
        def replica(batch: Batch, stop: tf.Tensor) -> dict[str, tf.Tensor]:
            return {**model.train_step(batch), "stop": replicas.total(stop)}

        def everywhere(batch: Batch, stop: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._first(self.strategy.run(replica, args=(batch, stop)))

        step = tf.function(everywhere, input_signature=[signature, tf.TensorSpec((), tf.int32)])
        return StepsTogether(step)

    def from_chief(self, get: Callable[[], float]) -> float:
        value = tf.constant(get() if self.chief else 0.0, tf.float64)
        return float(together(lambda: self._sum(value)))

    def _summed(self, value: tf.Tensor) -> tf.Tensor:
        def replica(value: tf.Tensor) -> tf.Tensor:
            return replicas.total(tf.where(replicas.index() == 0, value, 0.0))

        return self.strategy.experimental_local_results(self.strategy.run(replica, args=(value,)))[0]


class StepsTogether:
    """Steps that all workers do at once; when one of them is asked to stop, all are told at the same step."""

    def __init__(self, step: Callable[[Batch, tf.Tensor], Mapping[str, tf.Tensor]]) -> None:
        self.step = step

    def submit(self, batch: Batch, stop: bool) -> list[Done]:
        results = together(lambda: self.step(batch, tf.constant(int(stop))))
        return [Done(float(results["loss"]), float(results["gradient_norm"]), bool(results["stop"]))]

    def finish(self) -> list[Done]:
        return []


def together(act: Callable[[], Result]) -> Result:
    """Do what needs all workers. Raises TrainingError when one is gone."""
    try:
        return act()
    except PEER_LOST as error:
        raise TrainingError(
            f"another worker of this run is gone, or cannot be reached ({type(error).__name__}). Cure: see what it "
            "said last, then start all workers again with `--resume`"
        ) from error
