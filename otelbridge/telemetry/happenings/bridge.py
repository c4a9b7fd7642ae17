"""What the bridge as a whole tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStarted:
    """All rooms are open."""

    version: str
    upstreams: tuple[str, ...]
    endpoint: str
    express_lane: bool
    """Whether usual events are mapped by the compiled lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUnbalanced:
    """Records are missing from the ledger, or there are too many: a fault of the bridge itself."""

    residue: Mapping[str, int]
    """Per stream: received minus everything accounted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted:
    """The bridge was asked to stop: it stops reading and delivers what it holds until the deadline."""

    why: str
    deadline_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStopped:
    """All rooms are closed; what is left waits for the next start."""

    held_records: int
    seconds: float
