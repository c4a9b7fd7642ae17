"""An event's fields go in, text for a terminal comes out: a block as `karmor logs` prints it, or one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otelbridge.telemetry.escape import escape

RESET, BOLD, DIM, RED, YELLOW, GREEN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m"
COLOUR_OF_ACTION = {"block": RED, "audit": YELLOW, "allow": GREEN}
IN_THE_HEAD = frozenset({"_kind", "UpdatedTime", "Timestamp"})
LINE_FIELDS = ("NamespaceName", "PodName", "ContainerName", "PolicyName", "Severity", "Operation", "Source", "Resource")

Print = Callable[[Mapping[str, Any]], None]


def printer(*, one_line: bool, colours: bool) -> Print:
    """What prints an event on stdout. Everything that comes from the event is escaped."""

    def coloured(text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if colours and code else text

    def block(fields: Mapping[str, Any]) -> None:
        code = _colour(fields)
        print(coloured(f"== {_kind(fields)} / {_when(fields)} ==", code or BOLD))
        for name, value in fields.items():
            if name not in IN_THE_HEAD:
                shown = escape(_text(value))
                print(f"{coloured(f'{name}:', DIM)} {coloured(shown, code) if name in ('Action', 'Result') else shown}")
        print(flush=True)

    def line(fields: Mapping[str, Any]) -> None:
        words = [escape(_text(fields[name])) for name in LINE_FIELDS if fields.get(name)]
        if "Message" in fields:
            words += [escape(_text(fields.get("Level", ""))), escape(_text(fields["Message"]))]
        end = " ".join(escape(_text(fields[name])) for name in ("Action", "Result") if fields.get(name))
        print(coloured(_when(fields), DIM), _kind(fields), *words, coloured(end, _colour(fields)), flush=True)

    return line if one_line else block


def _kind(fields: Mapping[str, Any]) -> str:
    return escape(str(fields["_kind"])).capitalize()


def _when(fields: Mapping[str, Any]) -> str:
    return escape(_text(fields.get("UpdatedTime") or fields.get("Timestamp", "")))


def _colour(fields: Mapping[str, Any]) -> str:
    return COLOUR_OF_ACTION.get(str(fields.get("Action", "")).lower(), "")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)
