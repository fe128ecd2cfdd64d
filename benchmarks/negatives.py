"""Retrieval quality on MovieLens-1M by kind of negatives and by logQ correction, on the validation part.

    python -m benchmarks.negatives --seeds 1 --epochs 2
    python -m benchmarks.negatives --only default "logQ on all" --seeds 1 2 3

The config is configs/ml-1m.yaml, with the ratings below 4 kept as explicit negatives. Every run goes through the
pipeline's own stages and is skipped when its artefact is current, so an interrupted benchmark goes on where it stopped.
`--check` exits 1 unless the default is within `TOLERANCE` of the best correction of in-batch negatives.
"""

import argparse
import json
import sys
from statistics import fmean

from pipeline.config_file import load_config
from pipeline.errors import TwoTowerError
from pipeline.importers import import_source
from pipeline.prepare import prepare

WORKDIR = "work/ml-1m-negatives"
JOBS = ["day_events", "window_events", "catalogue_counts", "vocabularies", "user_sequences"]
DEFAULT = ["loss.logq=negatives", "loss.negatives.mask_clicked=true"]
"""The defaults of the pipeline, whatever the config says."""
ONLY_UNIFORM = ["loss.negatives.in_batch=false", "loss.negatives.uniform=1000"]
CORRECTIONS = {"default": [], "logQ on all": ["loss.logq=all"], "no logQ": ["loss.logq=none"]}
VARIANTS: dict[str, list[str]] = {
    **CORRECTIONS,
    "clicked not masked": ["loss.negatives.mask_clicked=false"],
    "uniform 1000": ONLY_UNIFORM,
    "uniform 1000, no logQ": [*ONLY_UNIFORM, "loss.logq=none"],
    "mixed, uniform 1000": ["loss.negatives.uniform=1000"],
    "queue 4096": ["loss.negatives.queue=4096", "loss.negatives.queue_warmup=300"],
    "streaming frequency": ["loss.frequency.source=streaming"],
    "explicit 5": ["loss.negatives.explicit=5"],
    "mined 10": ["loss.negatives.hard={count: 10, every_steps: 200}"],
}
"""Overrides of the defaults, which are in-batch negatives with logQ on them alone and the clicked ones masked."""
TOLERANCE = 0.012
"""Of HIT@50: two standard errors over the 6,034 users."""


def main(argv: list[str] | None = None) -> int:
    """Train every variant with every seed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    arguments = parser.parse_args(argv)
    try:
        hits = {name: [trained(name, seed, arguments.epochs) for seed in arguments.seeds] for name in arguments.only}
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"| negatives | validation HIT@50, {arguments.epochs} epochs, seeds {arguments.seeds} |\n|---|---|")
    for name, values in hits.items():
        print(f"| {name} | {fmean(values):.4f} |")
    corrected = [fmean(hits[name]) for name in CORRECTIONS if name in hits]
    met = "default" in hits and fmean(hits["default"]) >= max(corrected) - TOLERANCE
    print(json.dumps({"epochs": arguments.epochs, "seeds": arguments.seeds, "HIT@50": hits, "target met": met}))
    return 1 if arguments.check and not met else 0


def trained(variant: str, seed: int, epochs: int) -> float:
    """The validation HIT@50 of one variant's best epoch."""
    from pipeline.train import train

    name = "-".join("".join(c if c.isalnum() else " " for c in variant).split())
    settings = [f"workdir={WORKDIR}", "source.keep_negatives=true", f"name={name}-{epochs}-{seed}"]
    settings += [f"train.seed={seed}", f"train.max_epochs={epochs}", *DEFAULT, *VARIANTS[variant]]
    config = load_config("configs/ml-1m.yaml", settings)
    import_source(config)
    prepare(config, JOBS)
    return train(config).counts["validation_hit_at_50"]


if __name__ == "__main__":
    sys.exit(main())
