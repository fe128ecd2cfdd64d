"""Ask a bundle without a server, and print the answer readably."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.bundle import Bundle
from serving.encoder import FeatureValue
from serving.retriever import Query, Retrieved, Retriever

RECENT = 10


@dataclass(frozen=True)
class Answer:
    """What was asked about, and the items found; every item is a dict of item_id, title, fields, and score."""

    subject: str
    context: list[dict[str, Any]]
    """The user's most recent items, oldest first; or the one item whose neighbours were asked for."""
    items: list[dict[str, Any]]
    ignored: dict[str, list[str]]


def recommend(
    bundle_path: Path | str,
    user_id: str | None = None,
    history: Sequence[str] | None = None,
    features: Mapping[str, FeatureValue] | None = None,
    k: int = 10,
) -> Answer:
    """The k best unseen items for a user. Raises as Bundle.open and Retriever.recommend do."""
    retriever = Retriever(Bundle.open(bundle_path))
    found = retriever.recommend(Query(user_id, history, features, k))
    recent = found.history[-RECENT:]
    subject = f"user {user_id}" if user_id is not None else "a user given by the request"
    return Answer(subject, _described(retriever, recent), _scored(retriever, found), found.ignored)


def similar(bundle_path: Path | str, item_id: str, k: int = 10) -> Answer:
    """The k items most similar to an item. Raises as Bundle.open and Retriever.similar do."""
    retriever = Retriever(Bundle.open(bundle_path))
    found = retriever.similar(item_id, k)
    return Answer(f"item {item_id}", [retriever.item(item_id)], _scored(retriever, found), found.ignored)


def print_answer(answer: Answer, console: Console | None = None) -> None:
    """Print what was asked about and the items found as two tables."""
    console = console or Console()
    about = "The item" if answer.subject.startswith("item") else f"Most recent items of {answer.subject}"
    if answer.context:
        console.print(_table(about, answer.context))
    else:
        console.print(f"{escape(answer.subject)} has no history: cold")
    console.print(_table(f"Best items for {answer.subject}", answer.items))
    for part, ids in answer.ignored.items():
        if ids:
            console.print(f"ignored, not in this bundle ({part}): {escape(', '.join(ids))}")


def _table(title: str, records: list[dict[str, Any]]) -> Table:
    names = list(records[0].get("fields", {})) if records else []
    table = Table(title=escape(title), title_justify="left")
    table.add_column("#", justify="right")
    for name in ("title", "item", *names):
        table.add_column(escape(name), overflow="ellipsis", no_wrap=True)
    scored = bool(records) and "score" in records[0]
    if scored:
        table.add_column("score", justify="right")
    for rank, record in enumerate(records, 1):
        fields = [escape(_text(record["fields"][name])) for name in names]
        score = [f"{record['score']:.4f}"] if scored else []
        table.add_row(str(rank), escape(record["title"] or "-"), escape(record["item_id"]), *fields, *score)
    return table


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) else str(value)


def _described(retriever: Retriever, items: Any) -> list[dict[str, Any]]:
    return retriever.bundle.items.describe(items, list(retriever.bundle.items.fields))


def _scored(retriever: Retriever, found: Retrieved) -> list[dict[str, Any]]:
    records = _described(retriever, found.items)
    return [{**record, "score": score} for record, score in zip(records, found.scores.tolist(), strict=True)]
