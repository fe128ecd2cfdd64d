"""pipeline/data_page.py, data_warnings.py and markdown.py: the page of given figures."""

from copy import deepcopy
from typing import Any

import pytest

from pipeline import data_page, data_warnings, markdown
from pipeline.config import ReportConfig


def line(what: str, kind: str, value: float | None, **rest: Any) -> dict[str, Any]:
    return {
        "what": what,
        "kind": kind,
        "value": value,
        "before": None,
        "now": None,
        "chance": None,
        "exceeds": False,
    } | rest


FIGURES: dict[str, Any] = {
    "limits": ReportConfig().model_dump(),
    "missing": {},
    "imported": {"events": 900, "first_event": "2024-01-01T00:00:00Z", "last_event": "2024-01-02T23:00:00Z"},
    "rows": [
        {
            "file": "a|b.csv",
            "rows": 1000,
            "kept": 898,
            "filtered": {"blank_lines": 100},
            "refused": {"missing_user_id": 2},
        },
        {"file": "c.csv", "rows": 2, "kept": 2, "filtered": {}, "refused": {}},
    ],
    "events_a_day": {"2024-01-01": 400, "2024-01-02": 500},
    "users": {"listed": 0, "kept": 100, "left_out": 3},
    "items": {"listed": 50, "known": 60, "trained": 40, "cold": 20, "outside_catalogue": 10, "dropped": 0},
    "popularity": {
        "trained": 40,
        "events": 700,
        "head_items": 4,
        "head_share": 0.5,
        "median": 6,
        "once": 2,
        "curve": [],
    },
    "top_items": [{"id": "i1", "title": "A | *bold*\ntitle", "events": 350}, {"id": "i_2", "title": "", "events": 7}],
    "histories": {"count": 100, "mean": 9.0, "median": 8, "p90": 15, "largest": 40, "bins": []},
    "sessions": {"sessions": 200, "sessions_cut": 1, "session_items": 500, "pairs": 77, "gap_seconds": 3600}
    | {"events": {"count": 200, "mean": 3.5, "median": 2, "p90": 6, "largest": 30, "bins": []}},
    "fields": [
        {"side": "item", "name": "title", "kind": "title", "rows": 50, "with_value": 59},
        {"side": "item", "name": "genre", "kind": "multi", "rows": 50, "with_value": 25, "values": 2}
        | {"top": [["x|y", 20], ["z", 5]]},
        {"side": "item", "name": "year", "kind": "numeric", "rows": 50, "with_value": 49}
        | {"min": 1990.0, "median": 2004.5, "max": 2024.0},
        {"side": "user", "name": "age", "kind": "categorical", "rows": 0},
    ],
    "mutual_information": {"fields": ["item_id", "genre"], "matrix": [[2.0, 1.0], [1.0, 1.0]]},
    "drift": {
        "days": {"newest": "2024-01-02", "before": "2024-01-01"}
        | {"lines": [line("events", "change", 0.25, before=400, now=500), line("new users", "new", None)]},
        "report": {"lines": [line("item field genre", "divergence", 0.012, chance=0.001)]},
    },
    "counters": {"tables": {"rejected": {"missing_user_id": 2}, "events": 900, "ignored_columns": []}},
    "previous": {
        "imported": {"events": 800, "first_event": "2023-12-31T00:00:00Z", "last_event": "2024-01-01T23:00:00Z"}
    },
    "warnings": [],
    "plots": ["events.png"],
}


def without(*names: str) -> dict[str, Any]:
    """The figures when the artefacts behind these are missing."""
    return {**FIGURES, **dict.fromkeys(names)}


def tables(page: str) -> list[list[str]]:
    return [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]


def cells(row: str) -> int:
    return row.replace("\\|", "").count("|")


def test_every_row_of_a_table_has_the_cells_of_its_header():
    for rows in tables(data_page.markdown(FIGURES)):
        assert len({cells(row) for row in rows}) == 1


@pytest.mark.parametrize(
    "told",
    [
        "| imported | 900 events, 2024-01-01 to 2024-01-02 |",
        "| counted | 900 events on 2 dates, 2024-01-01 to 2024-01-02 |",
        "| source | 1,002 rows in 2 files, 2 refused (0.2 %) |",
        "| users | 100 users, 3 left out |",
        "| items | 60 items: 40 with a train event, 20 cold; 50 in the catalogue |",
        "| sessions | 200 sessions (pauses up to 3,600 s), median 2, mean 3.5 train events, mean 2.5 different items |",
        "| a\\|b.csv | 1,000 | 898 | 100 | 2 | 0.2 % | blank lines 100, missing user id 2 |",
        "| all 2 files | 1,002 | 900 | 100 | 2 | 0.2 % | blank lines 100, missing user id 2 |",
        "| 1 | A \\| \\*bold\\* title | 350 | 50.0 % |",
        "| 2 | i\\_2 | 7 | 1.0 % |",
        "| item | genre | multi | 25 | 50.0 % | 2 | x\\|y 40.0 %, z 10.0 % |",
        "| item | year | numeric | 49 | 98.0 % | - | 1990 to 2024, median 2004.5 |",
        "| user | age | categorical | - | - | - | - |",
        "| events | 400 | 500 | +25.0 % | - | ± 50.0 % |  |",
        "| new users | - | - | - | - | 50.0 % |  |",
        "| item field genre | - | - | 0.0120 bits | 0.0010 bits | chance + 0.1 bits |  |",
        "| tables | rejected missing user id | 2 |",
        "![Events a day](events.png)",
        "previous one, of 800 events, 2023-12-31 to 2024-01-01;",
    ],
)
def test_the_page_tells(told):
    assert told in data_page.markdown(FIGURES)


def test_plots_that_were_not_drawn_are_not_shown():
    assert data_page.markdown(FIGURES).count("![") == 1


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        (("events_a_day",), "Events a day"),
        (("popularity", "top_items"), "Items"),
        (("histories", "sessions"), "Histories and sessions"),
        (("mutual_information",), "Mutual information of item fields"),
    ],
)
def test_a_section_without_figures_is_left_out(missing, section):
    assert f"## {section}\n" in data_page.markdown(FIGURES)
    assert f"## {section}\n" not in data_page.markdown(without(*missing))


def test_only_the_worst_of_many_files_are_shown():
    files = [{**FIGURES["rows"][0], "file": f"f{n}.csv", "refused": {"bad": n}} for n in range(30)]
    page = data_page.markdown({**FIGURES, "rows": files})
    assert [f"| f{n}.csv " in page for n in (9, 10, 29)] == [False, True, True]
    assert "| all 30 files | 30,000 |" in page


# --- warnings ---


def test_within_the_limits_there_is_no_warning():
    assert data_warnings.warnings(FIGURES) == []
    assert "## Warnings\n\nNone.\n" in data_page.markdown(FIGURES)


def changed(**figures: Any) -> dict[str, Any]:
    """The figures with some of their parts updated."""
    found = deepcopy(FIGURES)
    for name, values in figures.items():
        found[name] = {**found[name], **values} if isinstance(values, dict) else values
    return found


@pytest.mark.parametrize(
    ("figures", "warning"),
    [
        (
            changed(rows=[{**FIGURES["rows"][0], "refused": {"missing_user_id": 30, "too_long": 5}}]),
            "a|b.csv: 35 of 1,000 rows refused (3.5 %; `report.warn_refused` is 1.0 %), most often for "
            "`missing user id`",
        ),
        (
            changed(fields=[{**FIGURES["fields"][0], "with_value": 45}]),
            "15 of 60 items have no title (25.0 %; `report.warn_cut` is 5.0 %)",
        ),
        (
            changed(users={"left_out": 100}),
            "100 of 200 users left out: fewer than `split.min_events` events (50.0 %; `report.warn_cut` is 5.0 %)",
        ),
        (
            changed(sessions={"sessions_cut": 20}),
            "20 of 200 sessions cut: more than `prepare.session.max_session_items` items "
            "(10.0 %; `report.warn_cut` is 5.0 %)",
        ),
        (
            changed(drift={"days": {"lines": [line("events", "change", -0.6, before=10, now=4, exceeds=True)]}}),
            "10 → 4 events (-60 %) since the day before; `report.warn_change` is 50.0 %",
        ),
        (
            changed(drift={"report": {"lines": [line("user field age", "divergence", 0.3, exceeds=True)]}}),
            "user field age diverges by 0.300 bits since the previous report; "
            "`report.warn_divergence` is 0.1 bits beyond chance",
        ),
        (
            changed(drift={"days": {"lines": [line("events on new items", "new", 0.7, exceeds=True)]}}),
            "70.0 % events on new items since the day before; `report.warn_new` is 50.0 %",
        ),
        (
            changed(missing={"title_neighbours": "not made"}),
            "nothing is told of the title neighbours, which were not made",
        ),
    ],
)
def test_a_warning_names_figure_and_limit(figures, warning):
    assert data_warnings.warnings(figures) == [warning]


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [(0, 7, "0.0 %"), (1, 10_000, "< 0.1 %"), (1, 3, "33.3 %"), (5, 0, "0.0 %"), (1, 1, "100.0 %")],
)
def test_shares(part, whole, told):
    assert data_warnings.share(part, whole) == told


# --- cells ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a|b", "a\\|b"),
        ("line\nbreak", "line break"),
        ("x" * 70, "x" * 59 + "…"),
        ("<b>", "\\<b\\>"),
        ("日本 🎲", "日本 🎲"),
    ],
)
def test_values_of_the_data_stay_in_their_cell(value, shown):
    assert markdown.text(value) == shown


def test_columns_of_numbers_align_to_the_right():
    assert markdown.table(["a", "b", "c"], [["x", "1", "y"]], texts=(0, 2)) == [
        "| a | b | c |",
        "| --- | ---: | --- |",
        "| x | 1 | y |",
    ]
