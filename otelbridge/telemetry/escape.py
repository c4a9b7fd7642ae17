"""Escapes characters that could harm a terminal, a log file or a page.

Everything in an event can be an attacker's: control codes move a terminal's cursor or forge a log line, bidirectional
marks turn text around. Records keep such text as it is; only what a human reads is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def escape(text: str) -> str:
    r"""The text with every character that does not print (C0, C1, ESC, bidi, newlines, surrogates) as its escape.

    `str.isprintable` draws the line: it is false for Unicode's categories "other" (Cc, Cf, Cs, Co, Cn) and for every
    separator but the space. A backslash stays as it is, so that paths stay readable.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escape_json(value: object) -> Json:
    """A JSON document with every string in it escaped, keys too.

    What JSON does not know becomes its text, what is no finite number becomes null.
    """
    match value:
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float():
            return value
        case str():
            return escape(value)
        case Mapping():
            return {escape(str(key)): escape_json(inner) for key, inner in value.items()}
        case list() | tuple():
            return [escape_json(inner) for inner in value]
        case _:
            return escape(str(value))
