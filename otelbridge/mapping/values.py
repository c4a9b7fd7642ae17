"""What one group of fields holds in one event, asked for by the fields' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Held: TypeAlias = "str | int | tuple[str, ...]"


class Values:
    """A field that the event's message type does not have reads as empty: alerts and logs share their code."""

    __slots__ = ("_held",)

    def __init__(self, names: Sequence[str], held: Sequence[Held]) -> None:
        self._held = dict(zip(names, held, strict=True))

    def text(self, name: str) -> str:
        """A text field."""
        held = self._held.get(name, "")
        return held if isinstance(held, str) else str(held)

    def number(self, name: str) -> int:
        """An integer field."""
        held = self._held.get(name, 0)
        return held if isinstance(held, int) else 0

    def texts(self, name: str) -> tuple[str, ...]:
        """A repeated text field."""
        held = self._held.get(name, ())
        return held if isinstance(held, tuple) else ()

    def raw(self, name: str) -> Held:
        """Whatever is held."""
        return self._held.get(name, "")

    def canonical(self) -> list[tuple[str, Held]]:
        """Names and values of the non-empty fields, sorted: a new field changes nothing for events that lack it."""
        return sorted((name, held) for name, held in self._held.items() if held)
