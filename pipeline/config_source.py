"""The `source` section of the configuration: where the raw logs are, what their columns mean, what is refused."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.config_section import Section

Partition = Literal["none", "day"]


class FieldConfig(Section):
    """One item or user field of the `table` importer. `column` defaults to `name`."""

    name: str
    kind: Literal["categorical", "multi", "numeric", "title"]
    column: str | None = None
    separator: str = Field(default="|", min_length=1)
    """Splits the values of a `multi` field when the column holds strings."""
    buckets: PositiveInt = 10
    """Quantile buckets of a `numeric` field."""


class TableSourceConfig(Section):
    """Column mapping for `format: table`.

    Files are .csv, .jsonl (both also with .gz after it) or .parquet, named relative to `source.path`.
    """

    events: str = "events.csv"
    """One file, or a pattern such as `events-*.csv` for several of one kind, read in name order."""
    items: str | None = None
    users: str | None = None
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str | None = None
    """The column that `source.minimum_rating` looks at."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Between the columns of .csv files."""
    items_id: str | None = None
    """The id column of the items file, when it differs from `item_id`."""
    users_id: str | None = None
    time_format: str | None = None
    """A strptime format; without it: Unix seconds (or ms / us / ns by `time_unit`), or ISO 8601."""
    time_unit: Literal["s", "ms", "us", "ns", "auto"] = "s"
    """`auto`: each number by its magnitude, for logs that mix them. A number of another unit than the one given is
    rejected as `timestamp_out_of_range`."""
    item_fields: list[FieldConfig] = Field(default=[])
    user_fields: list[FieldConfig] = Field(default=[])


class DemoSourceConfig(Section):
    """Size and seed of the generated demo logs."""

    users: PositiveInt = 2000
    items: PositiveInt = 1500
    events: PositiveInt = 60_000
    days: PositiveInt = 60
    seed: int = 7


class SourceConfig(Section):
    """Where the raw logs are, and in which format."""

    format: Literal["movielens", "recbole", "table", "demo"] = "demo"
    path: str | None = None
    partition: Partition = "none"
    """`day`: events are kept by their UTC date, and later stages count a day once. `none`: the log is one piece."""
    minimum_rating: float | None = None
    """Keep only events rated at least this; None keeps all. `format: table` needs `table.rating` for it."""
    keep_negatives: bool = False
    """Put the events rated lower aside, for `loss.negatives.explicit`: what was disliked; or, where `table.rating`
    names a column of clicks (1 or 0) and `minimum_rating` is 1, what was shown and not clicked. They count nowhere
    else."""
    max_rejected_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """A file with a larger share of bad rows than this fails the import, before anything is published."""
    max_future_days: float = Field(default=1.0, ge=0.0)
    """Events later than so many days after the file was imported are rejected: their clock is wrong."""
    now: str | None = None
    """ISO 8601, UTC. Takes the place of the clock, so that an import of old logs can be repeated exactly."""
    table: TableSourceConfig = TableSourceConfig()
    demo: DemoSourceConfig = DemoSourceConfig()

    @model_validator(mode="after")
    def _negatives_are_told_apart(self) -> "SourceConfig":
        if self.keep_negatives and self.minimum_rating is None:
            raise ValueError("`keep_negatives` needs `minimum_rating`: events rated lower are the negatives")
        return self
