"""What the next day costs: `prepare` for a window of 28 days, moved on by one.

    python benchmarks/incremental_days.py --check

Days 1 to 28 are imported and prepared from nothing; then the file of day 29 arrives, and days 2 to 29 are prepared
where the first window was. In another folder days 2 to 29 are prepared from nothing: every artefact must be the same,
byte by byte. In a third, day 29 alone is: what a day costs by itself. Each stage is a command line of its own, in a
child process. `--check` exits 1 where a target is missed.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from tqdm import tqdm

# In front of this file's own folder, where `beam_jobs` would be the benchmark of that name.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.measure import ROOT, Cost

FOLDER = ROOT / "work" / "incremental_days"
WINDOW = 28
FIRST, NEXT, AGAIN = "days 1-28, from nothing", "days 2-29, after them", "days 2-29, from nothing"
ALONE = "day 29 alone, from nothing"
MOVING, FRESH, SINGLE = FOLDER / "moving", FOLDER / "fresh", FOLDER / "single"
STAGES = {"import": ["import"], "prepare": ["prepare"], "both": ["import", "prepare"]}
SIZE = {"users": 200_000, "items": 100_000, "catalogue": 500_000, "days": WINDOW + 1}
ARTEFACTS = ["vocabularies", "user_sequences", "session_cooccurrence", "mutual_information"]
STEPS = ["day_events", "window_events", "catalogue_counts", "joint_counts", *ARTEFACTS]
"""All jobs but the title neighbours: the generated items have no titles."""
PAID_AGAIN = 0.2
"""Of what a window costs beyond its last day alone, import and prepare together, the next day may cost so much."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks-per-day", type=int, default=180_000)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    shutil.rmtree(FOLDER, ignore_errors=True)
    make_log(arguments.clicks_per_day * SIZE["days"])
    days = sorted((FOLDER / "source").glob("clicks-*.parquet"))
    windows = [
        (FIRST, MOVING, days[:WINDOW]),
        (NEXT, MOVING, days),
        (AGAIN, FRESH, days[1:]),
        (ALONE, SINGLE, days[-1:]),
    ]
    costs = {name: run(workdir, files) for name, workdir, files in tqdm(windows, unit="window")}
    figures = report(arguments.clicks_per_day, costs)
    missed = [name for name, met in figures["targets"].items() if not met]
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if arguments.check and missed else 0


def make_log(clicks: int) -> None:
    """Write a file of clicks per day, and the catalogue."""
    options = [f"--{name}={value}" for name, value in {**SIZE, "clicks": clicks}.items()]
    measure.run([sys.executable, "-m", "benchmarks.click_logs", FOLDER, "--by-day", *options])


def run(workdir: Path, days: list[Path]) -> dict[str, Cost]:
    """Import the files of some days and prepare the window that ends with the last of them."""
    source = workdir / "source"
    source.mkdir(parents=True, exist_ok=True)
    for file in [*days, FOLDER / "source" / "items.parquet"]:
        if not (source / file.name).exists():
            (source / file.name).hardlink_to(file)
    settings = [f"workdir={workdir}", f"source.path={source}", f"prepare.days={WINDOW}"]
    config = ["--config", str(FOLDER / "config.yaml"), *(text for each in settings for text in ("--set", each))]
    only = [text for step in STEPS for text in ("--only", step)]
    twotower = [sys.executable, "-m", "pipeline.cli"]
    return {
        "import": measure.run([*twotower, "import", *config])[1],
        "prepare": measure.run([*twotower, "prepare", *config, *only])[1],
    }


def differing() -> list[str]:
    """The artefacts whose files differ between the window that moved and the one made from nothing."""
    return [name for name in ARTEFACTS if checksums(MOVING, name) != checksums(FRESH, name)]


def checksums(workdir: Path, artefact: str) -> dict[str, dict]:
    """Size and SHA-256 of every file of an artefact."""
    manifest = (workdir / "prepared" / artefact / "MANIFEST.json").read_text(encoding="utf-8")
    return json.loads(manifest)["files"]


def report(clicks_per_day: int, costs: dict[str, dict[str, Cost]]) -> dict:
    """Print the table; return the figures with the targets, each met or not."""
    print(f"\n{clicks_per_day:,} clicks a day, {SIZE['catalogue']:,} items in the catalogue\n")
    print("| window | import s | CPU s | prepare s | CPU s | peak MB |\n" + "|---" * 6 + "|")
    figures = []
    for window, of in costs.items():
        stages = {f"{stage}_{name}": getattr(cost, name) for stage, cost in of.items() for name in ("wall", "cpu")}
        row = {name: round(seconds, 1) for name, seconds in stages.items()} | {
            "peak_mb": round(of["prepare"].peak / 1e6)
        }
        figures.append({"window": window, **row})
        print(f"| {window} | {' | '.join(f'{cell:,}' for cell in row.values())} |")
    paid = {stage: paid_again(costs, stages) for stage, stages in STAGES.items()}
    different = differing()
    print("\nOf what a window costs beyond its last day alone, the next day pays again, in CPU seconds:")
    print("; ".join(f"{stage} {share:.0%}" for stage, share in paid.items()))
    print(f"Artefacts that differ between the two ways: {', '.join(different) or 'none'}")
    targets = {
        f"import and prepare pay at most {PAID_AGAIN:.0%} again": paid["both"] <= PAID_AGAIN,
        "both ways give the same artefacts": not different,
    }
    return {
        "clicks_per_day": clicks_per_day,
        "figures": figures,
        "paid_again": {stage: round(share, 3) for stage, share in paid.items()},
        "targets": targets,
    }


def paid_again(costs: dict[str, dict[str, Cost]], stages: list[str]) -> float:
    """(next day - day alone) / (window - day alone), CPU seconds of some stages: 0 a day's cost, 1 a window's."""
    day, window, following = (sum(costs[name][stage].cpu for stage in stages) for name in (ALONE, AGAIN, NEXT))
    return (following - day) / (window - day)


if __name__ == "__main__":
    sys.exit(main())
