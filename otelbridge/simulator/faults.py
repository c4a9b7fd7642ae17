"""The words of a fault in (`end:OK@10s`, `freeze:20s@30s`, `restart-every:60s`), what to do and when out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import grpc

SECONDS_PER_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
STATUS_NAMES = tuple(code.name for code in grpc.StatusCode)
HEALTH_WORDS = ("echo", "hang", "wrong_nonce", *STATUS_NAMES)


class FaultError(ValueError):
    """The words are no fault. Its text says what is wrong and what is possible."""


class FaultKind(StrEnum):
    """What can happen."""

    END = "end"
    REFUSE = "refuse"
    HEALTH = "health"
    HANG = "hang"
    FREEZE = "freeze"
    SWALLOW = "swallow"
    SLOW = "slow"
    CUT = "cut"
    RESTART = "restart"
    GOAWAY = "goaway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a fault is written, and what it does."""

    words: tuple[str, ...] | None = None
    """What its first argument must be one of. None: there is no such argument."""
    rate: bool = False
    """Its first argument is a number of bytes a second."""
    lasts: bool = False
    """It takes a duration, after which it is undone; without one it stays."""
    network: bool = False
    """It happens in front of the server, so it needs the proxy."""
    does: str

    def written(self, kind: FaultKind) -> str:
        """The form, for messages and documentation."""
        first = ":BYTES_PER_SECOND" if self.rate else ":STATUS" if self.words else ""
        return f"{kind}{first}{'[:DURATION]' if self.lasts else ''}"


SHAPES: Mapping[FaultKind, Shape] = {
    FaultKind.END: Shape(words=STATUS_NAMES, does="ends the open streams with that status"),
    FaultKind.REFUSE: Shape(
        words=STATUS_NAMES, lasts=True, does="ends each stream that is opened, before its headers, with that status"
    ),
    FaultKind.HEALTH: Shape(
        words=HEALTH_WORDS, lasts=True, does="HealthCheck fails with that status, or is `hang` or `wrong_nonce`"
    ),
    FaultKind.HANG: Shape(lasts=True, does="the server answers nothing, but its HTTP/2 pings still are"),
    FaultKind.FREEZE: Shape(lasts=True, network=True, does="the server looks stopped: nothing is read or written"),
    FaultKind.SWALLOW: Shape(lasts=True, network=True, does="a black hole: bytes vanish in both directions"),
    FaultKind.SLOW: Shape(rate=True, lasts=True, network=True, does="the line carries only so many bytes a second"),
    FaultKind.CUT: Shape(network=True, does="every connection is reset"),
    FaultKind.RESTART: Shape(
        lasts=True, does="the server is killed and comes back, after the duration if one is given"
    ),
    FaultKind.GOAWAY: Shape(lasts=True, does="the server says GOAWAY, ends after the duration, and comes back"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is to happen, once or again and again."""

    kind: FaultKind
    word: str = ""
    """The status or manner, for those kinds that have one."""
    rate: float = 0
    """Bytes a second, for `slow`."""
    lasts_seconds: float | None = None
    at_seconds: float
    """After the start."""
    every_seconds: float | None = None

    @property
    def ends_after_seconds(self) -> float | None:
        """When it is undone, counted from its own start; None: never. A restarted server comes back in any case."""
        return self.lasts_seconds or 0 if self.kind is FaultKind.RESTART else self.lasts_seconds

    @property
    def needs_proxy(self) -> bool:
        """Whether it happens in front of the server."""
        return SHAPES[self.kind].network


def parse_fault(text: str) -> Fault:
    """Reads `WHAT@TIME` (once, so long after the start) or `WHAT-every:TIME`; see `faults_table` for WHAT.

    Raises:
        FaultError: It cannot be read.
    """
    what, separator, time = text.partition("-every:")
    if not separator:
        what, separator, time = text.partition("@")
    if not separator:
        raise FaultError(f"fault {text!r} does not say when: end it with @10s (once) or -every:60s")
    when = _duration(time, text)
    if separator == "-every:" and when <= 0:
        raise FaultError(f"fault {text!r}: the time after -every: must be greater than 0")
    name, *arguments = what.split(":")
    if name not in SHAPES:
        raise FaultError(f"fault {text!r}: {name!r} is none of {', '.join(SHAPES)}")
    kind = FaultKind(name)
    shape = SHAPES[kind]
    word, rate = "", 0.0
    if shape.words:
        word = _word(shape.words, arguments.pop(0) if arguments else "", text)
    elif shape.rate:
        rate = _rate(arguments.pop(0) if arguments else "", text)
    lasts = _duration(arguments.pop(0), text) if shape.lasts and arguments else None
    if arguments:
        raise FaultError(f"fault {text!r}: {arguments[0]!r} is too much; write {shape.written(kind)}")
    return Fault(
        kind=kind,
        word=word,
        rate=rate,
        lasts_seconds=lasts,
        at_seconds=when,
        every_seconds=when if separator == "-every:" else None,
    )


def faults_table() -> str:
    """Markdown: every fault, as it is written and what it does."""
    rows = [f"| `{shape.written(kind)}` | {shape.does} |" for kind, shape in SHAPES.items()]
    return "\n".join(["| fault | what happens |", "|---|---|", *rows])


def _duration(text: str, fault: str) -> float:
    if (match := DURATION.fullmatch(text)) is None:
        raise FaultError(f"fault {fault!r}: {text!r} is no duration; write 500ms, 10s, 2m or 1h")
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]


def _word(words: tuple[str, ...], text: str, fault: str) -> str:
    for word in words:
        if word.lower() == text.lower():
            return word
    raise FaultError(f"fault {fault!r}: {text!r} is none of {', '.join(words)}")


def _rate(text: str, fault: str) -> float:
    if not text.isdecimal() or not int(text):
        raise FaultError(f"fault {fault!r}: {text!r} is no number of bytes a second; write slow:10000@5s")
    return float(text)
