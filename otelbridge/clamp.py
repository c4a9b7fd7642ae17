"""Brings numbers from outside (headers, events, clocks, settings) into a range that the rest can work with."""

from __future__ import annotations

import math

MAX_UNIX_NANO = 2**63 - 1
"""April 2262: what OTLP's readers, SQLite's integers and Go's `time.UnixNano` can hold."""


def seconds(value: float, *, most: float, least: float = 0.0) -> float:
    """A duration in seconds between `least` and `most`; what is no number counts as `least`.

    Takes whatever arithmetic on outside values can bring: NaN, infinities, and integers too large for a float.
    """
    try:
        number = float(value)
    except OverflowError:
        return most if value > 0 else least
    if math.isnan(number):
        return least
    return min(max(number, least), most)


def unix_nano(value: float) -> int:
    """Nanoseconds since 1970, between the epoch and `MAX_UNIX_NANO`; what is no number counts as 0."""
    if isinstance(value, float) and not math.isfinite(value):
        return MAX_UNIX_NANO if value > 0 else 0
    return min(max(int(value), 0), MAX_UNIX_NANO)


def whole_number(text: str, *, most: int) -> int:
    """What ASCII digits say, at most `most` + 1; -1 where there are none. Python refuses 4,300 of them."""
    if not (text.isascii() and text.isdigit()):
        return -1
    return min(int(text.lstrip("0")[: len(str(most)) + 1] or 0), most + 1)


def count(value: int, *, most: int) -> int:
    """A number of things, or a size in bytes, between 0 and `most`."""
    return min(max(value, 0), most)
