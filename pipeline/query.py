"""Ask a published bundle in this process: the same code the server runs, without the server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.config import Config
from serving.bundle import Bundle
from serving.retriever import Query, Retrieved, Retriever

RECENT = 5


@dataclass(frozen=True)
class Answer:
    """What was asked, in words, the items known to have been seen last, and the items found, best first."""

    question: str
    recent: list[dict[str, Any]]
    items: list[dict[str, Any]]


def recommend(config: Config, user: str | None, history: Sequence[str] | None, k: int) -> Answer:
    """The k best items for a known user, or for a history of item ids. Raises RequestError."""
    retriever = Retriever(Bundle.open(config.bundle_dir))
    found = retriever.recommend(Query(user_id=user, history=history, k=k))
    who = f"user {user}" if user is not None else "this history"
    recent = retriever.bundle.items.describe(found.history[-RECENT:][::-1])
    return Answer(f"top {k} for {who}", recent, _items(retriever, found))


def similar(config: Config, item: str, k: int) -> Answer:
    """The k items most similar to one. Raises RequestError."""
    retriever = Retriever(Bundle.open(config.bundle_dir))
    title = retriever.item(item)["title"]
    found = retriever.similar(item, k)
    return Answer(f"top {k} like {item}" + (f", “{title}”" if title else ""), [], _items(retriever, found))


def show(answer: Answer, as_json: bool) -> None:
    """Print to stdout, for a reader or for a script."""
    if as_json:
        print(json.dumps({"recent": answer.recent, "items": answer.items}, ensure_ascii=False))
        return
    console = Console()
    console.print(Text(answer.question, style="bold"))
    if answer.recent:
        seen = "; ".join(item["title"] or item["item_id"] for item in answer.recent)
        console.print(Text(f"seen last: {seen}"))
    table = Table("rank", "score", "item", "title")
    for rank, item in enumerate(answer.items, start=1):
        # Text, because a title may hold [brackets], which rich would take for markup.
        table.add_row(str(rank), f"{item['score']:.4f}", Text(item["item_id"]), Text(item["title"] or ""))
    console.print(table)


def _items(retriever: Retriever, found: Retrieved) -> list[dict[str, Any]]:
    described = retriever.bundle.items.describe(found.items)
    return [{**item, "score": float(score)} for item, score in zip(described, found.scores, strict=True)]
