"""Tables of a Markdown page."""

from collections.abc import Collection, Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[int] = (0,)) -> list[str]:
    """The lines of a table. The columns `texts` hold texts, the others numbers, which align to the right."""
    rule = ["---" if column in texts else "---:" for column in range(len(header))]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def text(value: str, limit: int = 60) -> str:
    """A value of the data as one cell: on one line, not longer than `limit`, without what Markdown would read."""
    shown = " ".join(value.split())
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    for character in "\\|*_`[]<>#":
        shown = shown.replace(character, f"\\{character}")
    return shown
