"""One day's warm start beside a full retrain, on the Interactive Fiction Database and its real days.

    python -m benchmarks.warm_start --seeds 1 2 3 --check
    python -m benchmarks.warm_start --seeds 1 2 3 --rate 0.3

Yesterday's model is trained on the log up to a day before `split.test_start`. Today's log has a day more: new events,
new items, other vocabularies. It is trained on from scratch, and from yesterday's weights in one epoch; both models are
evaluated on all that came after. The setting of the warm start is the config's own with `max_epochs: 1`, and `--rate`
times its learning rate. `--check` exits 1 where a target is missed.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from pipeline.artifacts import Artifact
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import TwoTowerError
from pipeline.evaluate import run as evaluate
from pipeline.importers import import_source
from pipeline.metrics import hits
from pipeline.prepare import JOBS, prepare
from pipeline.statistics import Interval, Run, bootstrap, compare

CONFIG, AT, HEADLINE = "configs/ifdb.yaml", [10, 50, 100], 50
FULL, WARM = "full retrain", "warm start"
TIME_TARGET = 0.5
"""The warm start may take so much of the full retrain's time."""


@dataclass(frozen=True)
class Trained:
    """One model of today and its evaluation."""

    model: Artifact
    evaluation: Artifact

    @property
    def cpu_seconds(self) -> float:
        """Of all its steps; how long they took says more about who else uses the machine."""
        lines = self.model.file("metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line)["cpu_seconds"] for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Train, evaluate and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--days", type=int, default=1, help="how old yesterday's model is")
    parser.add_argument("--rate", type=float, default=1.0, help="of the warm start, times the learning rate")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    try:
        pairs = [both(seed, arguments.days, arguments.rate) for seed in arguments.seeds]
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    figures = summarise({name: [pair[name] for pair in pairs] for name in (FULL, WARM)})
    missed = [name for name, met in figures["targets"].items() if not met]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if arguments.check and missed else 0


def both(seed: int, days: int, rate: float) -> dict[str, Trained]:
    """Today's two models with one seed; what is current already is not made again."""
    from pipeline.train import train

    yesterday = prepared(f"old-{seed}", days, seed)
    train(yesterday)
    full = prepared(f"full-{seed}", 0, seed)
    warm = prepared(f"warm-{days}-{rate:g}-{seed}", 0, seed)
    warm.train.max_epochs, warm.train.warm_start = 1, str(yesterday.run_dir)
    warm.train.learning_rate *= rate
    return {name: Trained(train(config), evaluate(config)) for name, config in ((FULL, full), (WARM, warm))}


def prepared(name: str, days: int, seed: int) -> Config:
    """The config of a run as it was so many days before the test begins, with its log imported and prepared."""
    config = load_config(CONFIG, [f"name={name}", f"train.seed={seed}"])
    config.workdir = f"{config.workdir}-{days}-days-before" if days else f"{config.workdir}-today"
    cut = datetime.fromisoformat(str(config.split.test_start)) - timedelta(days=days)
    config.train.unfinished = "auto"
    config.split.test_start, config.split.refit = cut.isoformat(), True
    import_source(config)
    names = list(JOBS)
    prepare(config, only=names[: names.index("user_sequences") + 1])
    return config


def difference(read: dict[str, list[Run]]) -> Interval:
    """HIT@HEADLINE of the warm start less that of the full retrain; each user's hits are averaged over the seeds."""
    full, warm = (np.mean([hits(run.ranks, HEADLINE) for run in read[name]], axis=0) for name in (FULL, WARM))
    offsets = read[FULL][0].offsets
    sums = np.add.reduceat(warm - full, offsets[:-1])[:, np.newaxis]  # (T,) -> (U, 1)
    return bootstrap(sums, np.diff(offsets)[:, np.newaxis].astype(float), resamples=2000)[0]


def summarise(runs: dict[str, list[Trained]]) -> dict:
    """Print the tables and return the figures with the targets, each met or not."""
    read = {name: [Run.read(each.evaluation.path) for each in trained] for name, trained in runs.items()}
    print(f"\n# {len(runs[FULL])} seeds, {len(read[FULL][0].offsets) - 1:,} users\n")
    print(compare(read, AT, HEADLINE))
    seconds = {name: float(np.median([each.cpu_seconds for each in trained])) for name, trained in runs.items()}
    print("\n| | CPU seconds, median | epochs |\n|---|---:|---:|")
    for name, trained in runs.items():
        print(f"| {name} | {seconds[name]:.1f} | {trained[0].model.counts['epochs']} |")
    hit = {name: [float(hits(run.ranks, HEADLINE).mean()) for run in each] for name, each in read.items()}
    share, lost = seconds[WARM] / seconds[FULL], difference(read)
    targets = {
        f"{WARM} HIT@{HEADLINE} not below, by the 95 % interval over users": lost.high is None or lost.high >= 0,
        f"{WARM} in at most {TIME_TARGET} of the time": share <= TIME_TARGET,
    }
    return {f"HIT@{HEADLINE}": hit, "CPU seconds": seconds, "share of time": share, "targets": targets}


if __name__ == "__main__":
    sys.exit(main())
