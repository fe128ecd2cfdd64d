"""Five times as many requests as the server can answer: it must go on answering as many as it can."""

from pathlib import Path

from benchmarks.load import running

TARGETS = {"goodput under overload": (">=", 0.8), "broken connections": ("<=", 0.0)}
OVERLOAD, CONNECTIONS = 5, 1000


def overload(bundle: Path, users: list[str], k: int, seconds: float) -> dict[str, float]:
    """Good answers under overload over those of a load that just fills the server, per CPU second of the server."""
    with running(bundle, max_k=k) as server:
        server.load(users, k, 8, 2)
        full = server.load(users, k, 64, seconds)
        capacity = full.good / full.seconds
        # Each connection rests, asks, and rests again, whatever the answer: so many a second, not so many at once.
        pause = int(1000 * CONNECTIONS / (OVERLOAD * capacity))
        over = server.load(users, k, CONNECTIONS, max(seconds, 5.0), pause_ms=pause)
        after = server.load(users, k, 64, seconds)
    return {
        "goodput under overload": (over.good / over.cpu) / (full.good / full.cpu),
        "broken connections": float(over.broken),
        "capacity per second": capacity,
        "asked per second, if answered at once": 1000 * CONNECTIONS / pause,
        "good per second": over.good / over.seconds,
        "refused per second": over.status / over.seconds,
        "good per CPU second, full": full.good / full.cpu,
        "good per CPU second, over": over.good / over.cpu,
        "capacity afterwards": after.good / after.seconds,
    }
