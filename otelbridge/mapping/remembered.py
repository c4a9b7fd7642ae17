"""What is known of each group of fields: encoded attributes, words for the body, a digest for the id.

`parts.py` works them out, `lane.py` joins them. Slots are read in less than half the time of a named tuple's fields,
and an event reads some twenty.
"""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.mapping.detail import Role
from otelbridge.mapping.tally import AlertKind

Known = tuple[tuple[str, ...], list[str]]
"""Keys of EventData and their texts: in this form they are compared fastest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkloadPart:
    """Where it happened."""

    resource: bytes
    attributes: bytes
    where: bytes
    digest: bytes
    node: str
    namespace: str
    container: tuple[str, str, str]
    """Cluster, node and container id: what an exec session's id is unique in."""
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RulePart:
    """What KubeArmor says about it."""

    head: bytes
    """Severity, its text and the event name: fields of the LogRecord."""
    attributes: bytes
    before: bytes
    after: bytes
    digest: bytes
    operation: str
    """As KubeArmor wrote it."""
    kind: AlertKind
    counts: dict[str, int]
    """Of this kind of alert, by namespace."""
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProcessPart:
    """Who did it."""

    attributes: bytes
    parent: str
    by_executable: bytes
    by_parent: bytes
    digest: bytes
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetailPart:
    """How it was seen."""

    attributes: bytes
    role: Role
    pairs: dict[str, str]
    """What Data holds."""
    known: Known
    """The EventData that says nothing new."""
    digest: bytes
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TouchedPart:
    """What was touched, where only Data and Resource together tell."""

    attributes: bytes
    known: Known
    """The EventData that says nothing new."""
    digest: bytes
    """Of the Resource as far as it identifies the event: without what a relay appended."""
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FormPart:
    """How a Network event of a known form was seen, but for its one new word."""

    attributes: bytes
    known: Known
    """The EventData that says nothing new, but for the word's text: its key is the last."""
    digest: bytes
    weight: int
