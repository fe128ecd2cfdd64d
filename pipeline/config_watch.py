"""The `watch` section: what is recorded of a training run while it runs. It changes nothing about the model."""

from pydantic import NonNegativeInt, PositiveInt

from pipeline.config_section import Section


class WatchConfig(Section):
    """TensorBoard event files beside the run."""

    tensorboard: bool = True
    every_steps: PositiveInt = 100
    """Steps between two points of the curves of losses and gradient norms; the others have one point an epoch."""
    sample: PositiveInt = 2000
    """Validation users behind alignment and uniformity."""
    projector_items: NonNegativeInt = 5000
    """Items shown by the embedding projector, the most frequent; 0 writes none."""
