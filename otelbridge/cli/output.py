"""How commands speak: data on stdout, talk on stderr, text for people or JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from otelbridge.cli.exits import Exit
from otelbridge.telemetry.escape import escape

DELETE = "\x7f"
"""The one control character that JSON leaves as it is."""


class Output(StrEnum):
    """The form of the data."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Text for people, or JSON for programs.")]


def say(text: str) -> None:
    """Talk: one line on stderr; what others say in it (servers, files, events) cannot steer the terminal."""
    print(escape(text), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Data: one JSON document on stdout, indented, in ASCII: what stands in an event cannot steer a terminal."""
    print(json.dumps(document, indent=2).replace(DELETE, "\\u007f"))


def print_json_line(document: Any) -> None:
    """Data: one JSON document on one line."""
    print(json.dumps(document, separators=(",", ":")).replace(DELETE, "\\u007f"), flush=True)


def fail(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Ends the command with a sentence on stderr."""
    say(text)
    raise typer.Exit(code)


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()) -> None:
    """Data: an aligned table on stdout; the columns named in `numbers` are set flush right."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    right = {head.index(name) for name in numbers}
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in [list(head), *cells]:
        line = "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print(line.rstrip())


def quiet_broken_pipe() -> None:
    """For when the reader of our stdout (`head`, `less`) has gone: nothing more is written, and nobody complains."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
