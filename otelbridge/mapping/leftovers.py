"""What the usual attributes do not say: rare pieces of an event, worked out only when they are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from otelbridge.mapping.wire import Attribute, Value, clip

MAX_EVENT_DATA_KEYS = 64
MAX_UNKNOWN_FIELDS = 32
MAX_KEY_BYTES = 64
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_A_KEY = re.compile(r"[^a-z0-9_]+")


def new_event_data(event_data: Iterable[tuple[str, str]], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """The entries that Data and Resource do not tell, sorted: Go writes maps in random order."""
    return sorted((key, text) for key, text in event_data if known.get(key) != text)


def event_data_attributes(entries: Sequence[tuple[str, str]]) -> tuple[list[Attribute], int]:
    """Attributes for the first 64 entries, and the number of those left out."""
    pairs: dict[str, Value] = {}
    for key, text in entries[:MAX_EVENT_DATA_KEYS]:
        wanted = name = "kubearmor.event_data." + snake(key)
        rank = 1
        while name in pairs:
            rank += 1
            name = f"{wanted}_{rank}"
        pairs[name] = text
    return list(pairs.items()), max(0, len(entries) - MAX_EVENT_DATA_KEYS)


def unknown_attributes(unknown: Mapping[int, Sequence[Value]]) -> tuple[list[Attribute], int]:
    """Attributes for the first 32 unknown fields, and the number of those left out."""
    pairs: list[Attribute] = [
        (f"kubearmor.unknown_field.{number}", held[0] if len(held) == 1 else [str(value) for value in held])
        for number, held in sorted(unknown.items())[:MAX_UNKNOWN_FIELDS]
    ]
    return pairs, max(0, len(unknown) - MAX_UNKNOWN_FIELDS)


def snake(key: str) -> str:
    """`SourceIP` becomes `source_ip`; whatever does not belong into an attribute's key becomes `_`."""
    return clip(_NOT_A_KEY.sub("_", _HUMP.sub("_", key).lower()), MAX_KEY_BYTES) or "_"
