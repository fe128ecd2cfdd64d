"""Every kind of negatives as the settings that switch it on, for the tests that hold for all of them."""

KINDS: dict[str, list[str]] = {
    "in_batch": [],
    "uniform": ["loss.negatives.in_batch=false", "loss.negatives.uniform=6"],
    "mixed": ["loss.negatives.uniform=6"],
    "queue": ["loss.negatives.queue=9", "loss.negatives.queue_warmup=0"],
    "explicit": ["loss.negatives.explicit=3"],
    "hard": ["loss.negatives.hard={count: 3, every_steps: 2}"],
    "streaming": ["loss.frequency.source=streaming"],
    "hashed": ["loss.frequency={source: streaming, slots: 16}"],
    "all_at_once": [
        "loss.negatives={uniform: 6, queue: 9, queue_warmup: 0, explicit: 3, explicit_weight: 2.0}",
        "loss.negatives.hard={count: 3, every_steps: 2, weight: 0.5}",
        "loss.frequency.source=streaming",
    ],
}
