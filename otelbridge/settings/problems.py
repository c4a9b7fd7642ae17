"""A problem with the settings in the operator's words: path, value, what is wrong, the cure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otelbridge.net.secrets import HIDDEN, hidden, is_secret
from otelbridge.setting import SettingFault
from otelbridge.settings.tree import Leaf, from_text
from otelbridge.telemetry.escape import escape

DEFAULT_ORIGIN = "default"


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


MAX_SHOWN_CHARS = 400
"""Of each part of a problem: all of them may quote what was given."""


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
        """One line that can be printed: path, value, what is wrong, cure, origin."""
        path, value, wrong, cure, origin = map(shortened, (self.path, self.value, self.wrong, self.cure, self.origin))
        subject = f"{path} = {value}" if value else path
        return escape(f"{subject}: {wrong}. {cure} ({origin})" if origin else f"{subject}: {wrong}. {cure}")


def shortened(text: str) -> str:
    """At most MAX_SHOWN_CHARS of it."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


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

    def take_text(self, leaf: Leaf, text: str, origin: str) -> None:
        """Takes the text that a variable or a flag gives for a setting."""
        try:
            self.given.append(Given(path=leaf.path, value=from_text(leaf.setting.type, text), origin=origin))
        except ValueError as error:
            cure = "Write JSON, or items separated by commas (key=value for a map)."
            shown = str(hidden(leaf.path, text))
            self.problems.append(Problem(path=leaf.path, value=shown, wrong=str(error), cure=cure, origin=origin))


_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {
    f"{prefix}{unit}": size
    for power, letter in enumerate(("", "k", "m", "g"))
    for prefix, size in ((letter, 1000**power), (f"{letter}i" if letter else "", 1024**power))
    for unit in ("", "b")
}
"""`mb`, `mib`, `m` and `mi`; the case does not matter."""
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*")


def problem_of(setting: str, fault: SettingFault, origin: str) -> Problem:
    """A fault in the value of a setting, in the form that all problems are reported in."""
    path = setting + fault.at
    cure = _quantity_cure(setting, fault.value) or fault.cure
    return Problem(path=path, value=_shown(path, fault.value), wrong=fault.wrong, cure=cure, origin=origin)


def _quantity_cure(name: str, value: Any) -> str:
    """`30s` or `512MiB` where a plain number belongs: the number that was meant."""
    units = _SECONDS if name.endswith("_seconds") else _BYTES if name.endswith("_bytes") else {}
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = units.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        return ""
    number = float(match.group(1)) * unit
    return f"The unit stands in the name: write {int(number) if number.is_integer() else number}."


def _shown(path: str, value: Any) -> str:
    if value is None:
        return ""
    segments = re.sub(r"\[[^][]*]", "", path).split(".")
    if any(is_secret(segment) for segment in segments):
        return str(hidden("headers", value) if isinstance(value, Mapping) else HIDDEN)
    return shortened(str(hidden(segments[-1], value)))
