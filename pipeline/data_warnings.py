"""What stands at the top of the data report: figures beyond the limits of `report` in the configuration."""

from collections.abc import Iterator
from typing import Any


def share(part: float, whole: float = 1.0) -> str:
    """`4.5 %`; `< 0.1 %` for what is little but not nothing."""
    percent = 100 * part / whole if whole else 0.0
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:,.1f} %"


def warnings(figures: dict[str, Any]) -> list[str]:
    """One sentence a warning, each with its figure, its limit, and the setting that says so."""
    return [*_rows(figures), *_cut(figures), *_drift(figures), *_missing(figures)]


def _rows(figures: dict[str, Any]) -> Iterator[str]:
    limit = figures["limits"]["warn_refused"]
    for file in figures["rows"]:
        refused = sum(file["refused"].values())
        if refused > limit * file["rows"]:
            worst = max(file["refused"], key=file["refused"].__getitem__).replace("_", " ")
            yield (
                f"{file['file']}: {refused:,} of {file['rows']:,} rows refused ({share(refused, file['rows'])}; "
                f"`report.warn_refused` is {share(limit)}), most often for `{worst}`"
            )


def _cut(figures: dict[str, Any]) -> Iterator[str]:
    """Each a part of a whole that is left out of something."""
    limit, users, sessions = figures["limits"]["warn_cut"], figures["users"], figures["sessions"] or {}
    titled = [f["with_value"] for f in figures["fields"] if f["kind"] == "title" and f["side"] == "item"]
    items = figures["items"].get("known", figures["items"]["listed"])
    parts = [("items have no title", items - number, items) for number in titled[:1]]
    if users["left_out"]:
        left_out = "users left out: fewer than `split.min_events` events"
        parts.append((left_out, users["left_out"], users["left_out"] + users["kept"]))
    if sessions.get("sessions"):
        cut = "sessions cut: more than `prepare.session.max_session_items` items"
        parts.append((cut, sessions.get("sessions_cut", 0), sessions["sessions"]))
    for what, part, whole in parts:
        if part > limit * whole:
            yield f"{part:,} of {whole:,} {what} ({share(part, whole)}; `report.warn_cut` is {share(limit)})"


def _drift(figures: dict[str, Any]) -> Iterator[str]:
    limits, since = figures["limits"], {"days": "since the day before", "report": "since the previous report"}
    for against, found in figures["drift"].items():
        for line in found["lines"] if found else ():
            if not line["exceeds"]:
                continue
            if line["kind"] == "change":
                told = f"{line['before']:,} → {line['now']:,} {line['what']} ({100 * line['value']:+,.0f} %)"
                limit = f"`report.warn_change` is {share(limits['warn_change'])}"
            elif line["kind"] == "divergence":
                told = f"{line['what']} diverges by {line['value']:.3f} bits"
                limit = f"`report.warn_divergence` is {limits['warn_divergence']:g} bits beyond chance"
            else:
                told = f"{share(line['value'])} {line['what']}"
                limit = f"`report.warn_new` is {share(limits['warn_new'])}"
            yield f"{told} {since[against]}; {limit}"


def _missing(figures: dict[str, Any]) -> Iterator[str]:
    for kind, why in figures["missing"].items():
        yield f"nothing is told of the {kind.replace('_', ' ')}, which were {why}"
