"""The server beside the raw loop of user tower, FAISS and JSON on the same bundle, in turn, in one run.

    python -m benchmarks.serve --bundle work/ml-1m/bundles/base-2 --check
    python -m benchmarks.serve --bundle work/ml-1m/bundles/base-2 --items 1000000 --check
    python -m benchmarks.serve --bundle work/ml-1m/bundles/base-2 --mode swaps --check
    python -m benchmarks.serve --bundle work/ml-1m/bundles/base-2 --mode overload --check

Needs wrk. --items N asks a made bundle of N items in place of the trained one (benchmarks/big_bundle.py). The server
runs one worker: all targets are per worker and core. Requests a second are compared as requests per CPU second of the
server, which a busy machine and wrk's own work do not change; the wall figures are printed too. With one connection the
server and wrk share a processor, see `benchmarks.load.one_core`; `two cores` says what it is without. `--check` exits 1
where a target is missed.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from benchmarks import big_bundle, measure, overload, swaps
from benchmarks.load import Load, Server, one_core, running, started
from benchmarks.raw_loop import names_of
from serving.bundle import Bundle

TARGETS = {
    "requests per core, c = 64": (">=", 0.80),
    "p50, c = 1": ("<=", 1.40),
    "CPU per request, c = 1": ("<=", 1.25),
    "CPU per request, c = 64": ("<=", 1.25),
    "JSON share": ("<=", 0.03),
}


def loop(bundle: Path, what: str, k: int, seconds: float) -> dict[str, float]:
    """One loop of benchmarks/raw_loop.py."""
    command = [sys.executable, "-m", "benchmarks.raw_loop", str(bundle), "--what", what, "--k", str(k)]
    printed, _ = measure.run([*command, "--seconds", str(seconds)])
    return json.loads(printed.splitlines()[-1])


def speed(bundle: Path, users: list[str], k: int, seconds: float, rounds: int) -> dict[str, float]:
    """The ratios of TARGETS, medians over the rounds, and the figures behind them."""
    seen: dict[str, list[float]] = {}

    def note(**figures: float) -> None:
        for name, value in figures.items():
            seen.setdefault(name, []).append(value)

    bare_command = [sys.executable, "-m", "benchmarks.bare_server", str(bundle), "--k", str(k)]
    with running(bundle, max_k=k) as server, started(bare_command) as bare:
        _warm(server, users, k)
        for _ in range(rounds):
            raw = loop(bundle, "raw", k, seconds)
            note(raw_us=raw["cpu_us"], raw_p50_us=raw["p50_us"], raw_per_second=raw["per_second"])
            for name, connections in (("c1", 1), ("c1_two_cores", 1), ("c64", 64)):
                with one_core(server) if name == "c1" else nullcontext():
                    load = _load(server, users, k, connections, seconds)
                cost = 1e6 * load.cpu / load.requests
                note(**{f"{name}_us": cost, f"{name}_cpu_ratio": cost / raw["cpu_us"]})
                note(**{f"{name}_p50_us": load.p50, f"{name}_per_second": load.requests / load.seconds})
                note(**{f"{name}_p50_ratio": load.p50 / raw["p50_us"]})
                if name == "c1":
                    json_us = loop(bundle, "json", k, seconds / 2)["cpu_us"]
                    note(json_us=json_us, json_share=json_us / cost)
            with one_core(bare):
                note(bare_p50_us=bare.load(users, k, 1, seconds).p50)
            note(engine_us=loop(bundle, "engine", k, seconds / 2)["cpu_us"])
    figures = {name: statistics.median(values) for name, values in seen.items()}
    ratios = {
        "requests per core, c = 64": 1 / figures["c64_cpu_ratio"],
        "p50, c = 1": figures["c1_p50_ratio"],
        "CPU per request, c = 1": figures["c1_cpu_ratio"],
        "CPU per request, c = 64": figures["c64_cpu_ratio"],
        "p50, c = 1, two cores": figures["c1_two_cores_p50_ratio"],
        "CPU per request, c = 1, two cores": figures["c1_two_cores_cpu_ratio"],
        "p50 over bare p50, c = 1": figures["c1_p50_us"] / figures["bare_p50_us"],
        "JSON share": figures["json_share"],
    }
    return {**ratios, **figures}


def _load(server: Server, users: list[str], k: int, connections: int, seconds: float) -> Load:
    load = server.load(users, k, connections, seconds)
    if load.status or load.broken:
        raise RuntimeError(f"{load.status} refused, {load.broken} broken of {load.requests} requests")
    return load


def _warm(server: Server, users: list[str], k: int) -> None:
    server.load(users, k, 8, 2)


def report(figures: dict[str, float], targets: dict[str, tuple[str, float]]) -> bool:
    """Print the figures with their targets, then one JSON line. Returns whether all targets are met."""
    met = True
    for name, value in figures.items():
        sign, bound = targets.get(name, ("", 0.0))
        good = value >= bound if sign == ">=" else value <= bound
        verdict = "" if not sign else f"target {sign} {bound:g}: {'met' if good else 'MISSED'}"
        met = met and (good or not sign)
        print(f"{name:<34} {value:>12,.3f}  {verdict}")
    print(json.dumps({"figures": {name: round(value, 4) for name, value in figures.items()}, "met": met}))
    return met


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="a published bundle")
    parser.add_argument("--items", type=int, help="ask a made bundle of so many items, with the tower of this one")
    parser.add_argument("--mode", choices=["speed", "swaps", "overload"], default="speed")
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bundle = arguments.bundle if arguments.items is None else big_bundle.made(arguments.bundle, arguments.items)
    users = names_of(Bundle.open(bundle))
    modes: dict[str, Callable[[], tuple[dict[str, float], dict[str, tuple[str, float]]]]] = {
        "speed": lambda: (speed(bundle, users, arguments.k, arguments.seconds, arguments.rounds), TARGETS),
        "swaps": lambda: (swaps.swap(bundle, users, arguments.k, arguments.swaps), swaps.TARGETS),
        "overload": lambda: (overload.overload(bundle, users, arguments.k, arguments.seconds), overload.TARGETS),
    }
    met = report(*modes[arguments.mode]())
    return 0 if met or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
