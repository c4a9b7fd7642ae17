"""What a check across settings says: the settings concerned, what is wrong, the cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otelbridge.settings.given import Given, Problem
from otelbridge.settings.hiding import hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A fault between settings, or between a setting and the machine."""

    paths: tuple[str, ...]
    """The setting to name first, then the others that play a part."""
    wrong: str
    cure: str
    value: Any = None
    at: str = ""
    """The place within the first setting, such as `[0].pattern`."""

    def as_problem(self, given: dict[str, Given]) -> Problem:
        """In the form that all problems are reported in, with the origin of the first setting that was given."""
        origin = next((given[path].origin for path in self.paths if path in given), "default")
        value = "" if self.value is None else str(hidden(self.paths[0], self.value))
        return Problem(path=self.paths[0] + self.at, value=value, wrong=self.wrong, cure=self.cure, origin=origin)
