"""Reads the texts of KubeArmor's fields that rules and records both depend on."""

from __future__ import annotations

MAX_SEVERITY = 10
_OUTCOMES = {
    "Passed": "allowed",
    "Permission denied": "denied",
    "Operation not permitted": "denied",
    "Removed": "denied",  # a USB device that KubeArmor took off the bus
}


def outcome_of(result: str) -> str:
    """`allowed`, `denied` or `failed`, by KubeArmor's Result; empty where it gives none.

    KubeArmor's Action is what was meant, not what happened. A Result that is none of the known ones is an errno text:
    the operation failed for a reason of its own.
    """
    return _OUTCOMES.get(result, "failed") if result else ""


def severity_of(text: str) -> int:
    """A policy's severity, 1 to 10; 0 where it names none."""
    level = int(text) if len(text) <= len(str(MAX_SEVERITY)) and text.isascii() and text.isdigit() else 0
    return level if level <= MAX_SEVERITY else 0


def labels_of(text: str) -> dict[str, str]:
    """`k=v,k2=v2` as a dictionary, sorted: Go writes maps in random order.

    A part without `=` belongs to the value before it, because Docker's values may hold commas.
    """
    labels: list[tuple[str, list[str]]] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key:
            labels.append((key, [value]))
        elif labels:
            labels[-1][1].append(part)
    return dict(sorted((key, ",".join(values)) for key, values in labels))
