"""`train.distribute`: what it cannot be combined with, and the devices it means."""

from functools import cache

from pipeline.cluster import Cluster
from pipeline.config import Config
from pipeline.devices import Mirrored, OneDevice, Workers
from pipeline.errors import ConfigError
from pipeline.parameter_servers import ParameterServers
from pipeline.progress import say
from pipeline.storage import is_remote
from towers.keras import tf


def check_distribute(config: Config) -> None:
    """Refuse settings that exclude each other. Raises ConfigError."""
    train, negatives = config.train, config.loss.negatives
    if train.devices is not None and train.distribute != "mirrored":
        raise ConfigError(
            f"`train.devices` is {train.devices}, but `train.distribute` is {train.distribute}. Cure: `mirrored`, or "
            "no `train.devices`"
        )
    if train.distribute != "parameter_server":
        return
    if is_remote(config.root):
        raise ConfigError(
            f"`train.distribute` is parameter_server, whose servers write checkpoints themselves, but `workdir` is the "
            f"object store {config.workdir}. Cure: a folder that the chief and all servers share"
        )
    one_after_another = "whose steps must come one after another, while those of parameter servers overlap"
    refused = {
        "loss.negatives.queue": (negatives.queue > 0, one_after_another),
        "loss.negatives.hard": (negatives.hard.count > 0, "which would search all items on the chief"),
        "loss.frequency.source": (config.loss.frequency.source == "streaming", one_after_another),
        "train.deterministic": (train.deterministic, one_after_another),
        "train.precision": (train.precision == "float16", "whose loss scale must be the same on all workers"),
        "train.warm_start": (train.warm_start is not None, "which moves rows between tables that are whole"),
    }
    for setting, (given, why) in refused.items():
        if given:
            raise ConfigError(
                f"`train.distribute` is parameter_server, but `{setting}` is set, {why}. Cure: leave `{setting}` at "
                "its default, or `mirrored` or `multi_worker`"
            )


def cluster_of(config: Config) -> Cluster | None:
    """The machines of a run, None where it is this one alone. Raises ConfigError when TF_CONFIG does not name them."""
    kind = config.train.distribute
    return Cluster.from_environment(kind) if kind in ("multi_worker", "parameter_server") else None


def find_devices(config: Config, cluster: Cluster | None = None) -> OneDevice:
    """The devices to train on; to be called before TensorFlow has run anything.

    Waits for the other tasks of the cluster. Raises ConfigError when there are no such devices.
    """
    if cluster is None:
        return _of_this_machine(config)
    say(f"{cluster} waits for the others")
    if config.train.distribute == "parameter_server":
        return ParameterServers(config, cluster)
    return Workers(tf.distribute.MultiWorkerMirroredStrategy(), cluster)


def _of_this_machine(config: Config) -> OneDevice:
    if config.train.distribute == "none":
        return OneDevice()
    strategy = _mirrored(config.train.devices)
    say(f"training on {strategy.num_replicas_in_sync} devices")
    return Mirrored(strategy)


@cache
def _mirrored(count: int | None) -> tf.distribute.MirroredStrategy:
    """The one of this process: the collective ops of a second one would have the numbers of the first one's."""
    return tf.distribute.MirroredStrategy(_local_devices(count))


def _local_devices(count: int | None) -> list[str]:
    """The GPUs of this machine, or so many logical devices of its processor."""
    if count is not None:
        (processor,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(processor, logical)
        return [f"/cpu:{number}" for number in range(count)]
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        raise ConfigError(
            "`train.distribute` is mirrored, but TensorFlow sees no GPU (`tf.config.list_physical_devices('GPU')`). "
            "Cure: `none`; or a driver and `tensorflow[and-cuda]` (docs/training.md); or `train.devices`, to try it on "
            "the processor"
        )
    return [gpu.name for gpu in gpus]
