"""What id-dropout gives to items without a train event, and what it costs the others.

    python -m benchmarks.cold_start ml-1m --check
    python -m benchmarks.cold_start ifdb --seeds 1 2 3

`ml-1m`: configs/ml-1m.yaml for `--epochs`. A tenth of the films, others for each seed, lose all their events but those
that are some user's validation or test event: they are in the catalogue, and nobody has seen them. `ifdb`:
configs/ifdb.yaml, cut by time, where games are new because they are.

Every run is evaluated on both phases with all items as candidates, and new items once more among themselves. The rate
is chosen by HIT@50 over all pairs of the validation part. Beside it: popularity, which cannot tell new items apart, and
the cosine between an item's field values and those of the user's history, each weighed by how rare it is. Runs that
are current are not made again. `--check` exits 1 where a target is missed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.baselines import popularity
from pipeline.catalogue import FieldTable, Vocabularies, item_table, user_table
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import TwoTowerError
from pipeline.evaluate import model_score
from pipeline.evaluation_set import EvaluationSet, Phase, evaluated_parts
from pipeline.importers import import_source
from pipeline.metrics import hits
from pipeline.prepare import prepare
from pipeline.ranking import Score, evaluate
from pipeline.sequences import UserSequences
from pipeline.statistics import mean_and_deviation
from pipeline.tables import EVENTS, Tables

JOBS = ["day_events", "window_events", "catalogue_counts", "vocabularies", "user_sequences"]
HIDDEN, N = 0.1, 50
GAIN, COST = 2.0, 0.02
"""New items are to be found so many times as often, for at most this share of the HIT of the others."""
Figures = dict[str, float]
"""HIT@50: `all`, `new` and `seen` items among all of the catalogue, `among new` items alone; `pairs` of new items."""


def main(argv: list[str] | None = None) -> int:
    """Train, evaluate and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["ml-1m", "ifdb"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.05, 0.1], help="of tower.id_dropout; 0 first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=2, help="of ml-1m; ifdb has its config's")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    found: dict[str, dict[str, list[Figures]]] = {"validation": {}, "test": {}}
    try:
        for seed in arguments.seeds:
            config = hidden(seed, arguments.epochs) if arguments.data == "ml-1m" else prepared("configs/ifdb.yaml")
            for name, phase, figures in measured(config, seed, arguments.rates):
                found[phase].setdefault(name, []).append(figures)
    except TwoTowerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    chosen, targets = summarise(found, [label(rate) for rate in arguments.rates])
    result = {"data": arguments.data, "seeds": arguments.seeds, "chosen": chosen, "HIT@50": found, "targets": targets}
    print(json.dumps(result))
    met = all(targets.values())
    return 1 if arguments.check and not met else 0


def label(rate: float) -> str:
    return f"id_dropout {rate:g}"


def prepared(path: str, *settings: str) -> Config:
    """A config with its log imported and prepared."""
    config = load_config(path, ["watch.tensorboard=false", "train.unfinished=auto", *settings])
    import_source(config)
    prepare(config, JOBS)
    return config


def hidden(seed: int, epochs: int) -> Config:
    """ml-1m without the train events of a tenth of its films, imported and prepared."""
    whole = prepared("configs/ml-1m.yaml", "workdir=work/ml-1m-cold")
    folder = Path(whole.workdir) / f"hidden-{seed}"
    if not (folder / "events.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        hide(whole, folder, seed)
    schema = Tables.read(whole.tables_dir).schema
    fields = {
        f"source.table.{side}_fields": json.dumps([{k: v for k, v in vars(field).items() if v} for field in each])
        for side, each in (("item", schema.item_fields), ("user", schema.user_fields))
    }
    files = {f"source.table.{name}": f"{name}.parquet" for name in ("events", "items", "users")}
    settings = {
        "workdir": str(folder),
        "source.format": "table",
        "source.path": str(folder),
        "source.minimum_rating": "null",
        "split.min_events": "3",  # of what is left of a user
        "train.max_epochs": str(epochs),
        **fields,
        **files,
    }
    return prepared("configs/ml-1m.yaml", *(f"{key}={value}" for key, value in settings.items()))


def hide(config: Config, folder: Path, seed: int) -> None:
    """Write the tables of a config to a folder, without the train events of a share HIDDEN of the items."""
    tables, names = Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies"))
    events = UserSequences.read(config.prepared_dir("user_sequences"))
    trained = np.flatnonzero(names.items.counts > 0) + 1
    drawn = np.random.default_rng(seed).choice(trained, round(HIDDEN * len(trained)), replace=False)
    kept = ~(events.train_rows() & np.isin(events.items, drawn))
    users = np.repeat(events.users, np.diff(events.offsets))[kept]
    columns = [names.users.decode(users), names.items.decode(events.items[kept]), pa.array(events.timestamps[kept])]
    pq.write_table(pa.table(columns, schema=EVENTS), folder / "events.parquet")
    pq.write_table(tables.items(), folder / "items.parquet")
    pq.write_table(tables.users(), folder / "users.parquet")


def measured(config: Config, seed: int, rates: list[float]) -> list[tuple[str, str, Figures]]:
    """(scorer, phase, figures) of the baselines and of a model for each rate."""
    from pipeline.train import load_model, train

    tables, names = Tables.read(config.tables_dir), Vocabularies.read(config.prepared_dir("vocabularies"))
    events, users = UserSequences.read(config.prepared_dir("user_sequences")), user_table(tables, names)
    content = rare_values(item_table(tables, names))
    phases: tuple[Phase, ...] = ("validation", "test")
    sets = {phase: evaluated_parts(events, names.items.size, config.split, phase) for phase in phases}
    found: list[tuple[str, str, Figures]] = []
    for phase, parts in sets.items():
        found.append(("popularity", phase, figures(parts, {p: popularity(parts[p]) for p in PARTS})))
        found.append(("field values", phase, figures(parts, {p: by_content(parts[p], content) for p in PARTS})))
    for rate in rates:
        config.name, config.train.seed, config.tower.id_dropout = f"dropout-{rate:g}-{seed}", seed, rate
        train(config)
        model = load_model(config)
        for phase, parts in sets.items():
            scores = {part: model_score(model, parts[part], users) for part in PARTS}
            found.append((label(rate), phase, figures(parts, scores)))
    return found


PARTS = ("catalogue", "new_items")


def figures(parts: dict[str, EvaluationSet], scores: dict[str, Score]) -> Figures:
    """What one scorer finds."""
    ranks = {part: evaluate(parts[part], scores[part], [N]).ranks for part in PARTS}
    new = parts["catalogue"].counts[parts["catalogue"].target_items] == 0
    found = hits(ranks["catalogue"], N)
    return {
        "all": float(found.mean()),
        "seen": float(found[~new].mean()),
        "new": float(found[new].mean()),
        "among new": float(hits(ranks["new_items"], N).mean()),
        "pairs": int(np.count_nonzero(new)),
    }


def rare_values(items: FieldTable) -> np.ndarray:
    """Each item's field values but its id, weighed by log(items / items that have them): float32 [R, V], length 1."""
    blocks = []
    for field in items.fields:
        if field.name != "item_id":
            block = np.zeros((len(items.columns["item_id"]), field.size), np.float32)
            values = items.columns[field.name].reshape(len(block), -1)  # (R,) or (R, M) -> (R, M)
            np.put_along_axis(block, values, 1.0, axis=1)
            block[:, 0] = 0
            blocks.append(block * np.log(len(block) / np.maximum(block.sum(axis=0), 1)))
    weighed = np.concatenate(blocks, axis=1)
    return weighed / np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-9)


def by_content(evaluation_set: EvaluationSet, content: np.ndarray) -> Score:
    """Score candidates by the dot product with the sum of the user's history. content: float32 [R, V]."""
    candidates = content[evaluation_set.candidates].T  # (V, C)

    def score(start: int, stop: int) -> np.ndarray:
        offsets = evaluation_set.history_offsets[start : stop + 1]
        each = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        profiles = np.stack([content[evaluation_set.history_items[a:b]].sum(axis=0) for a, b in each])
        return profiles @ candidates  # (b, V) @ (V, C) -> (b, C)

    return score


def summarise(found: dict[str, dict[str, list[Figures]]], rates: list[str]) -> tuple[str, dict[str, bool]]:
    """Print a table of each phase; returns the rate chosen on validation, and the targets, each met or not."""
    for phase, scorers in found.items():
        pairs = [each["pairs"] for each in scorers[rates[0]]]
        print(f"\n# {phase}: HIT@{N}, {len(pairs)} seeds, pairs of new items {pairs}\n")
        print("| | all items | seen items | new items | new items among themselves |\n|---|---:|---:|---:|---:|")
        for name, runs in scorers.items():
            cells = [mean_and_deviation([run[key] for run in runs]) for key in ("all", "seen", "new", "among new")]
            print(f"| {name} | {' | '.join(cells)} |")
    means = {
        phase: {name: {key: float(np.mean([run[key] for run in runs])) for key in runs[0]} for name, runs in s.items()}
        for phase, s in found.items()
    }
    chosen = max(rates[1:], key=lambda name: means["validation"][name]["all"])
    before, after, content = (means["test"][name] for name in (rates[0], chosen, "field values"))
    targets = {
        f"new items found at least {GAIN} times as often": after["new"] >= GAIN * before["new"],
        f"seen items found at most {COST:.0%} less": after["seen"] >= (1 - COST) * before["seen"],
        "new items among themselves better than by field values": after["among new"] >= content["among new"],
    }
    for name, met in targets.items():
        print(f"{'met' if met else 'missed'}: {name} ({chosen})", file=sys.stderr)
    return chosen, targets


if __name__ == "__main__":
    sys.exit(main())
