"""Output of all commands: data on stdout, messages on stderr, exit codes, times and sizes in words."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, NoReturn

from otelbridge.event import NANOSECONDS
from otelbridge.telemetry.escape import escape


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    """It ran, and the answer is no: an event did not parse, the ledger does not balance."""
    WRONG_USAGE = 2
    """The command line or the settings are wrong."""
    UNREACHABLE = 3
    """Something in the environment (a server, a file in use) is not there for us."""


DELETE = "\x7f"
"""The one control character that JSON leaves as it is."""


class Output(StrEnum):
    """The form of the data."""

    TEXT = "text"
    JSON = "json"


def say(text: str) -> None:
    """Writes one line to stderr; text from outside in it (servers, files, events) cannot control the terminal.

    Written in one call, so that lines of several threads stay whole. Ignores a stderr that is closed or full.
    """
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{escape(text)}\n")
        sys.stderr.flush()


def print_json(document: Any) -> None:
    """Prints one JSON document on stdout, indented, in ASCII, so that an event's text cannot control the terminal."""
    print(json.dumps(document, indent=2).replace(DELETE, "\\u007f"))


def print_json_line(document: Any) -> None:
    """Prints one JSON document on one line."""
    print(json.dumps(document, separators=(",", ":")).replace(DELETE, "\\u007f"), flush=True)


def fail(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Ends the command with a sentence on stderr."""
    say(text)
    raise SystemExit(code)


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()) -> None:
    """Prints an aligned table on stdout; the columns named in `numbers` are right-aligned."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    right = {head.index(name) for name in numbers}
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in [list(head), *cells]:
        line = "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print(line.rstrip())


def flush_output() -> None:
    """Writes what is buffered for stdout, while an error can still be reported.

    Raises:
        OSError: a full disk, or a reader (`head`, `less`) that has gone.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def abandon_output() -> None:
    """Discards what is left for stdout, so that the interpreter reports no error at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
MINUTE, HOUR, DAY = 60, 3600, 86400


def instant(text: str, *, now_unix_nano: int | None = None) -> int:
    """Unix nanoseconds of a time in the past (`10m` means ten minutes ago) or of an RFC 3339 instant.

    Raises:
        ValueError: it is neither; says what is possible.
    """
    match = _DURATION.fullmatch(text.strip())
    if match:
        now = time.time_ns() if now_unix_nano is None else now_unix_nano
        return now - int(float(match[1]) * _SECONDS[match[2]] * NANOSECONDS)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 30s, 10m, 2h or 1d (ago), or 2026-01-31T12:00:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * NANOSECONDS)


def in_words(unix_nano: int) -> str:
    """An instant in UTC, to the millisecond; `-` for none."""
    if not unix_nano:
        return "-"
    at = datetime.fromtimestamp(unix_nano / NANOSECONDS, tz=UTC)
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def age_in_words(seconds: float) -> str:
    """A duration, to two figures: `42 s`, `3 min`, `5.2 h`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < DAY else f"{seconds / DAY:.1f} d"


def size_in_words(size: float) -> str:
    """Bytes with a binary unit: `512 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004  # what Ki means
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
