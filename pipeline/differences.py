"""Two configurations side by side: only what differs."""

from typing import Any

ABSENT = "-"


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name: {"tower": {"heads": 2}} -> {"tower.heads": 2}."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def differing(all_settings: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of each setting that is not the same everywhere, by dotted name; ABSENT where there is none."""
    flattened = [flat(settings) for settings in all_settings]
    names = dict.fromkeys(name for settings in flattened for name in settings)
    rows = {name: [settings.get(name, ABSENT) for settings in flattened] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
