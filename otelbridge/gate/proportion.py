"""Tells whether a regular expression takes time in proportion to a text, whatever the text is: processes choose theirs.

Python's engine may take a time that grows with the square of a text or doubles with each character, and nothing else
runs meanwhile. Each part that repeats is tried on texts that it would repeat on and that do not match in the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from re import _constants as op  # type: ignore[attr-defined]  # re.sre_constants of old
from re import _parser  # type: ignore[attr-defined]
from typing import Any

SECONDS_PER_CHARACTER = 4e-6
"""Usual patterns take a twentieth of it."""
SETTLING_SECONDS = 0.001
LENGTHS = (*range(1, 32), *(2**power for power in range(5, 13)))
"""Shortest first: what doubles with each character is told from thirty of them, what squares from thousands."""
FEW = 16
"""Repeats up to so many times are taken for bounded."""
USUAL = "a0_ -./=:"
END = "\x01"
"""What hardly any pattern takes."""

_CATEGORIES = {op.CATEGORY_DIGIT: "0", op.CATEGORY_SPACE: " ", op.CATEGORY_NOT_WORD: "-", op.CATEGORY_NOT_DIGIT: "a"}
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT)


def takes_time_in_proportion(pattern: re.Pattern[str]) -> bool:
    """Whether no text was found that takes longer; some 10 ms of work."""
    return all(_in_budget(pattern, made, length) for made in _attacks(pattern) for length in LENGTHS)


def _in_budget(pattern: re.Pattern[str], made: Callable[[int], str], length: int) -> bool:
    text, least = made(length), float("inf")
    allowed = SETTLING_SECONDS + SECONDS_PER_CHARACTER * len(text)
    for _ in range(3):  # a processor that others use too is slow now and then
        began = time.thread_time()
        pattern.sub("", text)
        least = min(least, time.thread_time() - began)
        if least <= allowed:
            return True
    return False


def _attacks(pattern: re.Pattern[str]) -> Iterator[Callable[[int], str]]:
    """By length: the beginning that a repeated part needs, and the part or one of its characters, again and again."""
    for before, part in {*_repeats(_parser.parse(pattern.pattern, pattern.flags), "")}:
        for one in dict.fromkeys((part, *USUAL)):
            yield lambda length, before=before, one=one: before + one * length + END  # type: ignore[misc]
            if before:
                yield lambda length, before=before, one=one: (before + one) * length + END  # type: ignore[misc]


def _repeats(parsed: Any, before: str) -> Generator[tuple[str, str], None, str]:
    """Of each part that repeats: a text before it, and one that it takes. Returns one that all takes, perhaps."""
    text = ""
    for kind, given in parsed:
        if kind in _REPEATS:
            least, most, body = given
            one = yield from _repeats(body, before + text)
            if most > FEW:
                yield before + text, one
            text += one * min(max(least, 1), FEW)
        elif kind is op.BRANCH:
            first, *others = given[1]
            for branch in others:
                yield from _repeats(branch, before + text)
            text += yield from _repeats(first, before + text)
        elif kind in (op.SUBPATTERN, op.ATOMIC_GROUP):
            text += yield from _repeats(given[-1] if kind is op.SUBPATTERN else given, before + text)
        else:
            text += _character(kind, given)
    return text


def _character(kind: Any, given: Any) -> str:
    """One that it takes, perhaps; empty for what takes none."""
    if kind is op.LITERAL:
        return chr(given)
    if kind is op.IN:
        return _character(*given[0])
    if kind is op.RANGE:
        return chr(given[0])
    if kind is op.CATEGORY:
        return _CATEGORIES.get(given, "a")
    return "a" if kind in (op.ANY, op.NOT_LITERAL, op.NEGATE) else ""
