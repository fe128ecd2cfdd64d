"""What the sub-commands of `twotower` have in common: their options, and how errors are shown."""

import errno
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer


class Format(StrEnum):
    """Formats of raw logs."""

    movielens = "movielens"
    recbole = "recbole"
    table = "table"
    demo = "demo"


class Phase(StrEnum):
    """Parts of the split that can be evaluated."""

    validation = "validation"
    test = "test"


class Debug:
    """Whether errors show their traceback; set by the --debug option of any sub-command."""

    on = False

    @classmethod
    def set(cls, value: bool) -> None:
        cls.on = cls.on or value


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="YAML", help="The experiment; holds what differs from the defaults."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. train.seed=3. May be repeated."),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", callback=Debug.set, help="Show the traceback of an error.", is_eager=True)
]


def report_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls for an error nobody caught: a bug of ours, or a full disk. It exits with 1."""
    if Debug.on:
        traceback.print_exception(kind, error, trace)
    lines = str(error).splitlines() or [""]
    hint = "" if Debug.on else " (--debug shows the traceback)"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f". Cure: make room on that disk, and start again{hint}"
    print(f"error: {kind.__name__}: {lines[0]}{hint}", file=sys.stderr)
