"""The `loss` section of the configuration: the retrieval loss, its negatives, and what corrects for their drawing."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config_section import Section


class HardNegativesConfig(Section):
    """Hard negatives, mined with the model itself: the items it ranks highest for a user who has not clicked them
    (ANCE, Xiong et al. 2021)."""

    count: int = Field(default=0, ge=0)
    """Per user; 0 switches mining off."""
    skip: int = Field(default=0, ge=0)
    """Leave out so many of the very best: they may well be what the user clicks next."""
    every_steps: PositiveInt | None = None
    """Mine again after so many training steps; null mines once an epoch. Nothing is mined before the first of them is
    over: a model that knows nothing yet has no hard negatives."""
    weight: PositiveFloat = 1.0
    """How many times each counts in the denominator. 1 keeps the loss that of the softmax over the catalogue."""
    index: str = "Flat"
    """A FAISS factory string; `Flat` searches exactly, `IVF1024,Flat` suits large catalogues."""
    probes: PositiveInt = 16
    """Cells an IVF index looks into."""


class NegativesConfig(Section):
    """Where negatives come from. What is switched on is combined; see docs/training.md."""

    in_batch: bool = True
    """The other positives of the batch: drawn as often as they are clicked."""
    uniform: int = Field(default=0, ge=0)
    """Items drawn uniformly from the catalogue per batch. Beside `in_batch`: mixed negatives (Yang et al. 2020)."""
    queue: int = Field(default=0, ge=0)
    """Positives of past batches kept with the vectors they had then: cross-batch negatives (Wang et al. 2021)."""
    queue_warmup: int = Field(default=1000, ge=0)
    """Training steps before the queue is used: early vectors are out of date at once."""
    explicit: int = Field(default=0, ge=0)
    """Per example, the last so many items that the user saw and left alone before. Needs `source.keep_negatives`."""
    explicit_weight: PositiveFloat = 1.0
    """How many times each of them counts in the denominator."""
    mask_clicked: bool = True
    """No item that the user clicked in training is a negative of that user."""
    hard: HardNegativesConfig = HardNegativesConfig()

    @model_validator(mode="after")
    def _something_is_drawn(self) -> "NegativesConfig":
        if not (self.in_batch or self.uniform):
            raise ValueError(
                "there are no negatives to begin with. Cure: set `in_batch`, or a number of `uniform` ones"
            )
        return self


class FrequencyConfig(Section):
    """How often an item is drawn as an in-batch negative: the q of the logQ correction."""

    source: Literal["counts", "streaming"] = "counts"
    """`counts`: the item's share of the train events. `streaming`: estimated while training, from the examples that go
    by (Yi et al. 2019, algorithm 2)."""
    rate: float = Field(default=0.01, gt=0.0, le=1.0)
    """The alpha of the moving average."""
    slots: PositiveInt | None = None
    """Hash items into so many slots; null gives every item one of its own."""
    hashes: PositiveInt = 2
    """Hash functions, of which the one with the fewest collisions counts. Only with `slots`."""


class LossConfig(Section):
    """The retrieval loss: a softmax of the positive against negatives."""

    temperature: PositiveFloat = 0.1
    logq: Literal["negatives", "all", "none"] = "negatives"
    """Subtract the log of how often an item is expected among the negatives. `negatives`: from their logits alone, so
    that the loss estimates the softmax over the catalogue. `all`: from the positive's too (Yi et al. 2019). `none`:
    from none (MicRec, eq. 7)."""
    negatives: NegativesConfig = NegativesConfig()
    frequency: FrequencyConfig = FrequencyConfig()
