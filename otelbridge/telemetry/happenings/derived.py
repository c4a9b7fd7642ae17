"""What telemetry itself tells, from the happenings of the rooms and from the libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LossDetected:
    """A connection was found to be lost, so many seconds after its last sign of life (an event or a heartbeat)."""

    upstream: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRecovered:
    """An upstream is watched again, so many seconds after its loss was noticed."""

    upstream: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResumed:
    """The endpoint takes records again, after it asked for a delay or had to be held."""

    endpoint: str
    away_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySpoke:
    """A library (the SDK, its exporters, waitress, grpc) had something to complain about, by way of `logging`."""

    library: str
    level: str
    """`warning` or `error`."""
    template: str
    """The message before its values are put in: what makes two complaints the same."""
    message: str
