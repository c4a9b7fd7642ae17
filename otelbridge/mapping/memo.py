"""A bounded memory of what has been worked out before: it forgets what has not been asked for in a while."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar


class Weighed(Protocol):
    """Something that knows about how many bytes it and its key take; 0 means that it is not worth keeping."""

    @property
    def weight(self) -> int:
        """In bytes."""


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Weighed)


class Memo(Generic[K, V]):
    """Two generations: a full young one becomes the old one, and what is asked for again moves back to the young.

    An LRU would move an entry at every hit; this costs one dictionary look-up per hit. `recall(key) or learn(key)` is
    how to ask. Bounded both in entries and in bytes, because keys are texts that an attacker can choose.
    """

    __slots__ = ("_make", "_max_bytes", "_max_entries", "_old", "_young", "_young_bytes", "recall")

    def __init__(self, make: Callable[..., V], *, max_entries: int, max_bytes: int) -> None:
        self._make = make
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._young_bytes = 0
        self.recall: Callable[[K], V | None] = self._young.get  # bound to a dictionary that is never replaced

    def learn(self, key: K, *context: Any) -> V:
        """What `make` makes of the key (and of a context that follows from it), or made of it not too long ago."""
        value = self._old.pop(key, None)
        if value is None:
            value = self._make(key, *context)
            if not value.weight:
                return value
        if len(self._young) >= self._max_entries or self._young_bytes + value.weight > self._max_bytes:
            self._old = self._young.copy()
            self._young.clear()
            self._young_bytes = 0
        self._young[key] = value
        self._young_bytes += value.weight
        return value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
