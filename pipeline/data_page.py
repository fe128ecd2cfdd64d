"""The data report as a page of Markdown."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.data_warnings import share
from pipeline.markdown import table, text

Figures = dict[str, Any]
MOST_FILES = 20


def markdown(figures: Figures) -> str:
    """The whole page; sections without figures are left out."""
    lines = ["# Data report", "", *table(["", ""], headline(figures), texts=(0, 1)), "", "## Warnings", ""]
    lines += [f"- {told}" for told in figures["warnings"]] or ["None."]
    sections: dict[str, Callable[[Figures], Iterator[str]]] = {
        "Rows of the source files": _rows,
        "Events a day": _events,
        "Items": _items,
        "Histories and sessions": _histories,
        "Fields": _fields,
        "Mutual information of item fields": _information,
        "Drift": _drift,
        "Counters": _counters,
    }
    for title, write in sections.items():
        content = list(write(figures))
        if content:
            lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def headline(figures: Figures) -> list[list[str]]:
    """The rows of the table at the top: what, figures with their units."""
    users, items, imported = figures["users"], figures["items"], figures["imported"]
    span = f"{imported['first_event'][:10]} to {imported['last_event'][:10]}"
    rows = [["imported", f"{imported['events']:,} events, {span}"]]
    if days := figures["events_a_day"]:
        told = f"{sum(days.values()):,} events on {len(days):,} dates, {min(days)} to {max(days)}"
        rows.append(["counted", told])
    read, refused = (sum(f["rows"] for f in figures["rows"]), sum(sum(f["refused"].values()) for f in figures["rows"]))
    if read:
        files = f"{len(figures['rows']):,} file{'s' * (len(figures['rows']) > 1)}"
        rows.append(["source", f"{read:,} rows in {files}, {refused:,} refused ({share(refused, read)})"])
    if users["kept"] is not None:
        left_out = f", {users['left_out']:,} left out" if users["left_out"] else ""
        listed = f"; {users['listed']:,} in the users table" if users["listed"] else ""
        rows.append(["users", f"{users['kept']:,} users{left_out}{listed}"])
        told = f"{items['known']:,} items: {items['trained']:,} with a train event, {items['cold']:,} cold"
        rows.append(["items", f"{told}; {items['listed']:,} in the catalogue"])
    if (found := figures["popularity"]) and found["trained"]:
        rows.append(["popularity", f"{share(found['head_share'])} of train events on the 10 % most frequent items"])
    if (found := figures["histories"]) and found["count"]:
        rows.append(["histories", f"median {found['median']:,}, mean {found['mean']:,.1f} events a user"])
    if found := figures["sessions"]:
        rows.append(["sessions", _sessions(found)])
        rows.append(["pairs", f"{found.get('pairs', 0):,} pairs of items that share a session"])
    return rows


def _sessions(found: Figures) -> str:
    number, spread = found.get("sessions", 0), found["events"]
    told = f"{number:,} sessions (pauses up to {found['gap_seconds']:,} s)"
    if spread and spread["count"]:
        told += f", median {spread['median']:,}, mean {spread['mean']:,.1f} train events"
    if number and "session_items" in found:
        told += f", mean {found['session_items'] / number:,.1f} different items"
    return told


def _rows(figures: Figures) -> Iterator[str]:
    """A row a file; of many files, those with most refused rows."""
    files = figures["rows"]
    if not files:
        return
    shown = sorted(files, key=lambda file: sum(file["refused"].values()), reverse=True)[:MOST_FILES]
    header = ["file", "rows in", "kept", "filtered", "refused", "share refused", "filtered and refused for"]
    rows = [[text(file["file"]), *_outcome(file)] for file in files if file in shown]
    if len(files) > 1:
        total: Figures = {name: sum(file[name] for file in files) for name in ("rows", "kept")}
        for name in ("filtered", "refused"):
            total[name] = dict(sum((Counter(file[name]) for file in files), Counter()))
        rows.append([f"all {len(files):,} files", *_outcome(total)])
    yield from table(header, rows, texts=(0, 6))


def _outcome(file: Figures) -> list[str]:
    filtered, refused = sum(file["filtered"].values()), sum(file["refused"].values())
    numbers = [f"{n:,}" for n in (file["rows"], file["kept"], filtered, refused)]
    reasons = [f"{reason.replace('_', ' ')} {n:,}" for by in ("filtered", "refused") for reason, n in file[by].items()]
    return [*numbers, share(refused, file["rows"]), ", ".join(reasons) or "-"]


def _events(figures: Figures) -> Iterator[str]:
    days = figures["events_a_day"]
    if not days:
        return
    counts = sorted(days.values())
    busiest = max(days, key=days.__getitem__)
    yield (
        f"{len(days):,} dates with events; the median one has {counts[len(counts) // 2]:,} events, "
        f"the busiest ({busiest}) {days[busiest]:,}."
    )
    yield from _plot(figures, "events.png", "Events a day")


ITEMS = (
    ("in the catalogue", "listed"),
    ("in the vocabulary", "known"),
    ("with a train event", "trained"),
    ("cold: without a train event", "cold"),
    ("in events but not in the catalogue", "outside_catalogue"),
    ("left out: `prepare.min_item_count`", "dropped"),
)


def _items(figures: Figures) -> Iterator[str]:
    items, found = figures["items"], figures["popularity"]
    if found is None:
        return
    told = ([what, f"{items[key]:,}"] for what, key in ITEMS if items[key] is not None)
    yield from table(["items", "number"], told)
    if not found["trained"]:
        return
    yield ""
    yield (
        f"Head: the 10 % most frequent items, {found['head_items']:,} of {found['trained']:,}, hold "
        f"{share(found['head_share'])} of {found['events']:,} train events; the tail holds "
        f"{share(1 - found['head_share'])}. The median item has {found['median']:,} events, "
        f"{found['once']:,} items have one."
    )
    yield from _plot(figures, "popularity.png", "Train events by rank")
    yield from ["", "Most train events:", ""]
    yield from table(
        ["rank", "item", "train events", "share"],
        (
            [
                str(rank),
                text(item["title"] or item["id"]),
                f"{item['events']:,}",
                share(item["events"], found["events"]),
            ]
            for rank, item in enumerate(figures["top_items"], start=1)
        ),
        texts=(1,),
    )


def _histories(figures: Figures) -> Iterator[str]:
    rows = []
    for what, found in (
        ("events of a user", figures["histories"]),
        ("train events of a session", _session_events(figures)),
    ):
        if found and found["count"]:
            cells = (found["count"], found["median"], found["p90"], found["largest"])
            shown = [f"{n:,}" for n in cells]
            rows.append([what, shown[0], f"{found['mean']:,.1f}", *shown[1:]])
    if rows:
        yield from table(["", "number", "mean", "median", "90 % up to", "largest"], rows)
    yield from _plot(figures, "histories.png", "Events of users and of sessions")


def _session_events(figures: Figures) -> Figures | None:
    return (figures["sessions"] or {}).get("events")


def _fields(figures: Figures) -> Iterator[str]:
    rows = []
    for f in figures["fields"]:
        covered = [f"{f['with_value']:,}", share(f["with_value"], f["rows"])] if "with_value" in f else ["-", "-"]
        values = f"{f['values']:,}" if "values" in f else "-"
        rows.append([f["side"], text(f["name"]), f["kind"], *covered, values, _told_values(f)])
    if rows:
        yield "Rows of the items and users tables that have a value; the values that most of them carry."
        yield ""
        header = ["of", "field", "kind", "with a value", "share", "values", "most frequent"]
        yield from table(header, rows, texts=(0, 1, 2, 6))


def _told_values(field: Figures) -> str:
    if field.get("top"):
        return ", ".join(f"{text(value, 30)} {share(n, field['rows'])}" for value, n in field["top"])
    if "median" in field:
        return f"{field['min']:.6g} to {field['max']:.6g}, median {field['median']:.6g}"
    return "-"


def _information(figures: Figures) -> Iterator[str]:
    if figures["mutual_information"]:
        yield "How much two fields tell of each other, in nats, over the items; on the diagonal the entropy of a field."
        yield from _plot(figures, "mutual_information.png", "Mutual information of item fields")


def _drift(figures: Figures) -> Iterator[str]:
    days, report, limits = figures["drift"]["days"], figures["drift"]["report"], figures["limits"]
    if days:
        new = f"new: without an event in the {limits['seen_days']} dates before"
        yield f"{days['newest']} against {days['before']}; {new}."
        yield ""
        yield from _lines(days["lines"], limits)
    if days and report:
        yield ""
    if report:
        before = figures["previous"]["imported"]
        span = f"{before['first_event'][:10]} to {before['last_event'][:10]}"
        yield f"This report against the previous one, of {before['events']:,} events, {span}; new: not in that one."
        yield ""
        yield from _lines(report["lines"], limits)
    if not days and not report:
        yield "Nothing to compare with: no report on other data before this one, and no events apart by day."


def _lines(lines: list[Figures], limits: Figures) -> Iterator[str]:
    shown = {
        "change": lambda line: f"{100 * line['value']:+,.1f} %",
        "divergence": lambda line: f"{line['value']:.4f} bits",
        "new": lambda line: share(line["value"]),
    }
    rows = []
    for line in lines:
        value = "-" if line["value"] is None else shown[line["kind"]](line)
        counts = ["-" if line[key] is None else f"{line[key]:,}" for key in ("before", "now")]
        chance = "-" if line["chance"] is None else f"{line['chance']:.4f} bits"
        flag = "**warning**" if line["exceeds"] else ""
        rows.append([text(line["what"]), *counts, value, chance, _limit(line, limits), flag])
    yield from table(["", "before", "now", "drift", "by chance", "limit", ""], rows, texts=(0, 6))


def _limit(line: Figures, limits: Figures) -> str:
    if line["kind"] == "change":
        return f"± {share(limits['warn_change'])}"
    if line["kind"] == "new":
        return share(limits["warn_new"])
    return f"{'' if line['chance'] is None else 'chance + '}{limits['warn_divergence']:g} bits"


def _counters(figures: Figures) -> Iterator[str]:
    rows = []
    for kind, counts in figures["counters"].items():
        for name, value in counts.items():
            inner = value if isinstance(value, dict) else {"": value}
            for reason, n in inner.items():
                if isinstance(n, int | float):
                    counter = f"{name} {reason}".strip().replace("_", " ")
                    rows.append([kind.replace("_", " "), text(counter), f"{n:,}"])
    yield from table(["artefact", "counter", "number"], rows, texts=(0, 1))


def _plot(figures: Figures, name: str, title: str) -> list[str]:
    return ["", f"![{title}]({name})"] if name in figures["plots"] else []
