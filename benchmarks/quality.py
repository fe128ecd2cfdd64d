"""Retrieval quality on public data: the base towers, + CFM and + MicRec beside the mandatory baselines.

    python benchmarks/quality.py ml1m-loo --seeds 1 2 3 --check
    python benchmarks/quality.py ifdb-time --seeds 1 2 3 --check

Every stage runs through the pipeline's own functions and is skipped when its artefact is current, so an interrupted
benchmark goes on where it stopped. Settings were chosen on the validation part (docs/experiments.md); the test part is
read only by the evaluation stage. `--check` exits 1 where a target is missed.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# In front of this file's own folder, where `beam_jobs` would be the benchmark of that name.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.artifacts import Artifact, open_artifact
from pipeline.config_file import load_config
from pipeline.errors import TwoTowerError
from pipeline.evaluate import run as evaluate
from pipeline.importers import import_source
from pipeline.metrics import hits
from pipeline.prepare import prepare
from pipeline.statistics import Run, compare, format_figure, mean_and_deviation
from pipeline.storage import Location

VARIANTS: dict[str, list[str]] = {
    "base": [],
    "+ CFM": ["tasks.feature_masking.weight=0.1"],
    "+ MicRec": [f"tasks.{task}.weight=0.1" for task in ("feature_level", "semantic_level", "session_level")],
}
"""Overrides of the protocol's config. The first is the base."""

HEADLINE = 50
TOLERANCE = 0.001


@dataclass(frozen=True)
class Protocol:
    """One table of docs/experiments.md.

    baselines: published HIT@50 of what this project must land on within TOLERANCE, by scorer.
    reference: HIT@50 of a two-tower in the style of TFRS's tutorial on this protocol, which the base must reach.
    """

    config: str
    baselines: dict[str, float]
    reference: float


PROTOCOLS = {
    "ml1m-loo": Protocol("configs/ml-1m.yaml", baselines={"popularity": 0.1402}, reference=0.4753),
    "ifdb-time": Protocol(
        "configs/ifdb.yaml", baselines={"popularity": 0.0605, "recent_popularity": 0.0717}, reference=0.0693
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run one protocol; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    protocol = PROTOCOLS[arguments.protocol]
    try:
        evaluations = {
            variant: [evaluated(protocol, variant, seed) for seed in arguments.seeds] for variant in VARIANTS
        }
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    figures = summarise(arguments.protocol, protocol, evaluations)
    missed = [name for name, met in figures["targets"].items() if not met]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if arguments.check and missed else 0


def evaluated(protocol: Protocol, variant: str, seed: int) -> Artifact:
    """All stages of one variant with one seed; a time split is trained on its validation part too."""
    from pipeline.train import train

    name = f"{variant.strip('+ ').lower()}-{seed}"
    config = load_config(protocol.config, [*VARIANTS[variant], f"train.seed={seed}", f"name={name}"])
    if config.split.kind == "time":
        config.split.refit, config.workdir = True, f"{config.workdir}-refit"
    import_source(config)
    prepare(config)
    train(config)
    return evaluate(config, "test")


def summarise(name: str, protocol: Protocol, evaluations: dict[str, list[Artifact]]) -> dict:
    """Print the tables and return the figures with the targets, each met or not."""
    config = load_config(protocol.config)
    runs = {variant: [Run.read(artifact.path) for artifact in each] for variant, each in evaluations.items()}
    report = json.loads(evaluations["base"][0].file("report.json").read_text(encoding="utf-8"))
    print(f"\n# {name}: baselines\n")
    print(baseline_table(evaluations["base"][0].path, config.evaluate.at, report["labels"]))
    print(f"\n# {name}: {len(runs['base'])} seeds\n")
    print(compare(runs, config.evaluate.at, HEADLINE, config.evaluate.gap_seconds, config.evaluate.bootstrap))
    if "catalogue" in report["parts"]:
        print(f"\n# {name}: candidates never seen in training included\n")
        print(catalogue_table(evaluations, config.evaluate.at))
    hit = {variant: [float(hits(run.ranks, HEADLINE).mean()) for run in each] for variant, each in runs.items()}
    baselines = {
        scorer: float(hits(Run.read(evaluations["base"][0].path, scorer).ranks, HEADLINE).mean())
        for scorer in protocol.baselines
    }
    targets = {
        f"{scorer} HIT@{HEADLINE} within {TOLERANCE} of {protocol.baselines[scorer]}": bool(
            abs(value - protocol.baselines[scorer]) <= TOLERANCE
        )
        for scorer, value in baselines.items()
    }
    best = f"base HIT@{HEADLINE} >= {protocol.reference} (TFRS two-tower)"
    targets[best] = bool(np.mean(hit["base"]) >= protocol.reference)
    return {"protocol": name, f"HIT@{HEADLINE}": hit, "baselines": baselines, "targets": targets}


def catalogue_table(evaluations: dict[str, list[Artifact]], at: list[int]) -> str:
    """HIT@N among all items of the catalogue, mean and deviation over seeds, as Markdown; `unseen` is a cold start."""
    unseen = f"HIT@{HEADLINE} unseen"
    header = " | ".join(["variant", *(f"HIT@{n}" for n in at), unseen])
    rows = [f"| {header} |", "|---" * (len(at) + 2) + "|"]
    for variant, artifacts in evaluations.items():
        reports = [json.loads(a.file("report.json").read_text(encoding="utf-8")) for a in artifacts]
        models = [report["parts"]["catalogue"]["scorers"]["model"] for report in reports]
        figures = [mean_and_deviation([model["hit"][str(n)] for model in models]) for n in at]
        cold = mean_and_deviation([model["slices"]["unseen"][str(HEADLINE)] for model in models])
        rows.append(f"| {' | '.join([variant, *figures, cold])} |")
    return "\n".join(rows)


def baseline_table(evaluation: Location, at: list[int], labels: dict[str, str]) -> str:
    """HIT@N and coverage of every baseline as Markdown; none of them depends on a seed."""
    rows = [f"| baseline | {' | '.join(f'HIT@{n}' for n in at)} | coverage@{HEADLINE} |", "|---" * (len(at) + 2) + "|"]
    content = json.loads(open_artifact(evaluation, "evaluation", 2).file("report.json").read_text(encoding="utf-8"))
    for scorer in content["parts"]["trained"]["scorers"]:
        if scorer != "model":
            run = Run.read(evaluation, scorer)
            figures = [float(hits(run.ranks, n).mean()) for n in at] + [run.coverage[HEADLINE]]
            rows.append(f"| {labels.get(scorer, scorer)} | {' | '.join(format_figure(f) for f in figures)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
