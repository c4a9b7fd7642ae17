"""What the gate says of an event."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Keep (perhaps redacted), or drop by a rule."""

    keep: bool
    rule: str = ""
    """The name of the rule that decided, empty when none did."""
    redactions: int = 0
    """Secrets blacked out in the event's fields."""


KEEP = Verdict(keep=True)
