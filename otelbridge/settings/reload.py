"""Decides which changed settings take effect in a running bridge and which wait for a restart."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.settings.tree import Settings, leaves, value_at

AT_ONCE = ("gate.", "mapping.", "send.", "telemetry.log_level")
"""Settings, and sections, that a running bridge takes over without losing a subscription or a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The paths of the settings that differ."""

    taken: tuple[str, ...]
    """Those that take effect now."""
    waiting: tuple[str, ...]
    """Those that need a restart."""


def changes(before: Settings, after: Settings) -> Changes:
    """What a reload would do."""
    paths = [leaf.path for leaf in leaves() if value_at(before, leaf.path) != value_at(after, leaf.path)]
    return Changes(
        taken=tuple(path for path in paths if path.startswith(AT_ONCE)),
        waiting=tuple(path for path in paths if not path.startswith(AT_ONCE)),
    )


def merged(before: Settings, after: Settings) -> Settings:
    """The settings in force after a reload: what needs a restart stays as it was."""
    return before.model_copy(
        update={
            "gate": after.gate,
            "mapping": after.mapping,
            "send": after.send,
            "telemetry": before.telemetry.model_copy(update={"log_level": after.telemetry.log_level}),
        }
    )
