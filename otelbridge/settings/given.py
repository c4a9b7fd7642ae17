"""The words of loading: a value given somewhere, a problem with one, and the error that carries all problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

DEFAULT_ORIGIN = "default"
CLOSE_ENOUGH = 0.7
"""Of 1: a slip of the pen is above it, another word below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value, as somebody gave it: not checked yet."""

    path: str
    """Dotted, such as `feed.retry.max_seconds`; it need not exist."""
    value: Any
    origin: str
    """`flag --x`, `environment NAME`, `file PATH:LINE`."""
    base_of: str = ""
    """For an endpoint that is only a base: the path that OTLP/HTTP appends, such as `/v1/logs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the settings."""

    path: str
    """The setting, or the variable's or file's name where there is no such setting."""
    wrong: str
    """What is wrong, without its subject: `must be at least 10`."""
    cure: str
    origin: str = ""
    value: str = ""
    """As it may be shown: secrets are hidden."""

    def __str__(self) -> str:
        """One line: path, value, what is wrong, cure, origin."""
        subject = f"{self.path} = {self.value}" if self.value else self.path
        place = f" ({self.origin})" if self.origin else ""
        return f"{subject}: {self.wrong}. {self.cure}{place}"


class SettingsError(Exception):
    """The settings cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True, kw_only=True)
class Layer:
    """What one place (file, environment, flags) has to say."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the operator about values that were taken, but perhaps not as meant."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest known word as a sentence, or empty when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=CLOSE_ENOUGH)
    return f"Did you mean {close[0]}?" if close else ""
