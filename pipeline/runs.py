"""The runs of a workdir: a list of them, and some side by side."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline import storage
from pipeline.artifacts import Artifact, open_artifact
from pipeline.config import Config
from pipeline.differences import ABSENT, differing
from pipeline.errors import ArtifactError, RequestError, nearest
from pipeline.manifest import MANIFEST
from pipeline.markdown import table, text
from pipeline.run_folder import CONFIG, ENVIRONMENT, METRICS, TRIAL
from pipeline.storage import Location


@dataclass(frozen=True)
class Run:
    """What is known of one run. records: the lines of metrics.jsonl. best: the one of the weights that are kept."""

    name: str
    state: str
    config: dict[str, Any]
    environment: dict[str, Any]
    records: list[dict[str, Any]]
    best: dict[str, Any]

    @classmethod
    def read(cls, path: Location) -> "Run":
        """Read the finished model's own files, or else those of the run's folder. Raises ArtifactError."""
        try:
            return cls._read(path)
        except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:  # not what we wrote there
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise ArtifactError(f"{path} is damaged ({reason}). Cure: delete that folder, and train again") from None

    @classmethod
    def _read(cls, path: Location) -> "Run":
        finished = _opened(path, "model")
        unfinished = _opened(path, "checkpoint")
        state = ["finished"] if finished else []
        if unfinished:
            state.append(f"unfinished in epoch {unfinished.counts['epoch']}, step {unfinished.counts['step']}")
        trial = json.loads(_text(path, None, TRIAL) or "{}")
        if not state and trial:
            state.append(f"{trial['state']} as trial {trial['number']} of {trial['study']}")
        files = {name: _text(path, finished, name) for name in (CONFIG, ENVIRONMENT, METRICS)}
        records = [json.loads(line) for line in files[METRICS].splitlines()]
        config = yaml.safe_load(files[CONFIG]) or {}
        environment = json.loads(files[ENVIRONMENT] or "{}")
        return cls(path.name, "; ".join(state) or "begun", config, environment, records, best_record(records))

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of the best epoch by name, such as `loss` and `HIT@50`."""
        figures = {"epochs": len(self.records), "best epoch": self.best.get("epoch", ABSENT)}
        figures |= {name: self.best[name] for name in ("loss", "examples_per_second") if name in self.best}
        figures |= {f"loss of {name}": value for name, value in self.best.get("losses", {}).items()}
        return figures | self.best.get("validation", {})


def listing(config: Config) -> str:
    """A table of all runs of a workdir, in Markdown. Raises StorageError."""
    folders = storage.subfolders(config.root / "runs", "")
    if not folders:
        return f"no run at {config.root / 'runs'} yet"
    rows = [_listed(folder) for folder in folders]
    header = ("run", "state", "epochs", "best", "loss", "validation", "examples/s", "code")
    return "\n".join(table(header, rows, texts=(0, 1, 5, 7)))


def comparison(config: Config, names: list[str]) -> str:
    """Two tables in Markdown: the settings that differ between runs, and their figures at the best epoch of each.

    Raises RequestError for a name there is none of, ArtifactError.
    """
    known = [folder.name for folder in storage.subfolders(config.root / "runs", "")]
    for name in names:
        if name not in known:
            raise RequestError(f"no run {name!r} at {config.root / 'runs'}.{nearest(name, known)} There are: {known}")
    runs = [Run.read(config.root / "runs" / name) for name in names]
    settings = differing([run.config for run in runs])
    settings.pop("name", None)
    settings |= differing([run.environment for run in runs])
    figures = {name: [run.metrics.get(name, ABSENT) for run in runs] for run in runs for name in run.metrics}
    return "\n".join(
        [
            *_side_by_side("setting", names, settings),
            "",
            *_side_by_side("at the best epoch", names, figures, texts=(0,)),
        ]
    )


def _side_by_side(
    corner: str, names: list[str], rows: dict[str, list[Any]], texts: tuple[int, ...] | None = None
) -> list[str]:
    columns = tuple(range(len(names) + 1)) if texts is None else texts
    return table([corner, *names], [[name, *map(_cell, values)] for name, values in rows.items()], columns)


def _listed(folder: Location) -> list[str]:
    """The row of a run; of a damaged one the row says what is wrong, and the others are listed all the same."""
    try:
        return _row(Run.read(folder))
    except ArtifactError as error:
        return [folder.name, text(str(error).partition(" Cure:")[0], limit=200), *[ABSENT] * 6]


def _row(run: Run) -> list[str]:
    metrics, validation = run.metrics, run.best.get("validation", {})
    monitored = next(
        (f"{name} {_cell(value)}" for name, value in validation.items() if name.startswith("HIT@")), ABSENT
    )
    figures = [_cell(metrics.get(name, ABSENT)) for name in ("epochs", "best epoch", "loss")]
    speed = _cell(metrics.get("examples_per_second", ABSENT))
    return [run.name, run.state, *figures, monitored, speed, str(run.environment.get("code", ABSENT))]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text(str(value))


def best_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The record whose weights are kept: the first with the highest HIT, or the last without validation."""
    if not records:
        return {}

    def hit(record: dict[str, Any]) -> float:
        found = [value for name, value in record.get("validation", {}).items() if name.startswith("HIT@")]
        return found[0] if found else float(record["epoch"])

    return max(records, key=hit)


def _opened(path: Location, kind: str) -> Artifact | None:
    """The artefact of a run, None when it has none. Raises ArtifactError for one that is damaged."""
    if MANIFEST not in storage.sizes(path / kind):
        return None
    return open_artifact(path / kind, kind, 1)


def _text(path: Location, finished: Artifact | None, name: str) -> str:
    """A file of the run; "" when there is none, as in a run that has completed no epoch."""
    if finished is not None and name in finished.manifest["files"]:
        return finished.file(name).read_text(encoding="utf-8")
    try:
        return storage.read_text(path / name)
    except FileNotFoundError:
        return ""
