"""Ask a published bundle in this process: the same code the server runs, without the server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.config import Config
from pipeline.errors import RequestError
from serving.bundle import Bundle
from serving.filters import Filter, parse_filter
from serving.retriever import Query, Retrieved, Retriever

RECENT = 5


@dataclass(frozen=True)
class Answer:
    """What was asked, in words, the items known to have been seen last, and the items found, best first.

    ignored: ids of the history that the bundle does not know.
    """

    question: str
    recent: list[dict[str, Any]]
    items: list[dict[str, Any]]
    ignored: list[str]


def ask(
    config: Config, user: str | None, history: Sequence[str] | None, item: str | None, k: int, chosen: str | None
) -> Answer:
    """The k items most similar to one, or the k best for a known user, a history of item ids, or both.

    chosen: a filter on the items, as JSON text. Raises RequestError.
    """
    retriever = Retriever(Bundle.open(config.bundle_dir))
    allowed = _filter(retriever, chosen)
    if item is not None:
        title = retriever.item(item)["title"]
        found = retriever.similar(item, k, filter=allowed)
        return Answer(f"top {k} like {item}" + (f", “{title}”" if title else ""), [], _items(retriever, found), [])
    found = retriever.recommend(Query(user_id=user, history=history, k=k, filter=allowed))
    who = f"user {user}" if user is not None else "this history"
    recent = retriever.bundle.items.describe(found.history[-RECENT:][::-1])
    return Answer(f"top {k} for {who}", recent, _items(retriever, found), found.ignored["history"])


def show(answer: Answer, as_json: bool) -> None:
    """Print to stdout, for a reader or for a script."""
    if as_json:
        told = {"recent": answer.recent, "ignored": answer.ignored, "items": answer.items}
        print(json.dumps(told, ensure_ascii=False))
        return
    console = Console()
    console.print(Text(answer.question, style="bold"))
    if answer.recent:
        seen = "; ".join(item["title"] or item["item_id"] for item in answer.recent)
        console.print(Text(f"seen last: {seen}"))
    if answer.ignored:
        console.print(Text(f"not in this bundle, and left out: {', '.join(answer.ignored)}", style="yellow"))
    table = Table("rank", "score", "item", "title")
    for rank, item in enumerate(answer.items, start=1):
        # Text, because a title may hold [brackets], which rich would take for markup.
        table.add_row(str(rank), f"{item['score']:.4f}", Text(item["item_id"]), Text(item["title"] or ""))
    console.print(table)


def _filter(retriever: Retriever, chosen: str | None) -> Filter | None:
    if chosen is None:
        return None
    try:
        value = json.loads(chosen)
    except ValueError as error:
        raise RequestError(f"`--filter` is not JSON: {error}") from None
    return parse_filter(value, retriever.bundle.items.kinds)


def _items(retriever: Retriever, found: Retrieved) -> list[dict[str, Any]]:
    described = retriever.bundle.items.describe(found.items)
    return [{**item, "score": float(score)} for item, score in zip(described, found.scores, strict=True)]
