"""The `train` and `watch` sections: the training loop, and what is recorded while it runs."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config_section import Section


class TrainConfig(Section):
    """The training loop."""

    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: PositiveFloat = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the learning rate falls to 0 over `max_epochs`, along half a cosine."""
    batch_size: PositiveInt = 1024
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of products in training; variables, sums and losses stay float32, and so does the exported tower. bfloat16 is for
    processors with AMX and for GPUs, float16 for GPUs without bfloat16; it scales the loss."""
    max_epochs: int = Field(default=20, ge=0)
    """0, with `warm_start`: that run's weights as they are, for the catalogue of now."""
    patience: PositiveInt = 3
    """Evaluations without a better validation HIT before training stops."""
    monitor: PositiveInt = 50
    """N of the validation HIT@N that chooses the best checkpoint."""
    history_sampling: Literal["recent", "others"] = "recent"
    """`recent`: the items before the positive, in order. `others`: random other train items of the user."""
    half_life_days: PositiveFloat | None = None
    """Weigh an example by 0.5 ** (age / half-life); None weighs all alike."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    deterministic: bool = False
    """Only ops that give the same bits every time: the same seed on the same machine repeats a run exactly."""
    checkpoint_minutes: PositiveFloat = 10
    """A checkpoint is written this often, and after every epoch."""
    unfinished: Literal["ask", "resume", "restart", "auto"] = "ask"
    """What to do with a run that was stopped: `ask`: nothing, and say so. `resume`: go on from its checkpoint; another
    config's is refused. `restart`: begin again. `auto`, that of `twotower run`: go on if it is this config's."""
    distribute: Literal["none", "mirrored", "multi_worker", "parameter_server"] = "none"
    """`mirrored`: all GPUs of this machine. `multi_worker`: the machines of TF_CONFIG, and their GPUs.
    `parameter_server`: the tables lie on several machines of TF_CONFIG. See docs/training.md."""
    devices: PositiveInt | None = None
    """Of `mirrored`: so many logical devices of the processor in the place of GPUs, to try it without any."""
    shard_bytes: PositiveInt = 262_144
    """Of `parameter_server`: a table is cut into shards of at least so many bytes, at most one a server."""
    warm_start: str | None = None
    """Begin with the weights of an earlier run: the name of one of this workdir, or the folder (or URL) of a run, a
    model, a checkpoint, or a bundle whose model is still there."""
    warm_start_field: str | None = None
    """A categorical item field: an item new since that run begins as the mean of the known items that share its value.
    None, or no such item: as the mean of all."""


class WatchConfig(Section):
    """TensorBoard event files beside the run. Nothing of this changes the model."""

    tensorboard: bool = True
    """Write event files and the projector into the folder of the run."""
    every_steps: PositiveInt = 100
    """Steps between two points of the curves of losses and gradient norms; the others have one point an epoch."""
    sample: PositiveInt = 2000
    """Validation users behind alignment and uniformity."""
    projector_items: int = Field(default=5000, ge=0)
    """Items shown by the embedding projector, the most frequent; 0 writes none."""
