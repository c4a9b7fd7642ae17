"""What the couriers tell."""

from __future__ import annotations

from dataclasses import dataclass

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAccepted:
    """The endpoint said yes."""

    endpoint: str
    stream: Stream
    records: int
    rejected: int
    """Of those, rejected by a partial success: counted, not sent again."""
    message: str
    request_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDelayed:
    """The endpoint, or the way to it, asks for patience; the batch stays where it is."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str
    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHeld:
    """Only an operator can cure this (credentials, wrong address); the batch stays where it is."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str
    delay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSplit:
    """The endpoint found a request too large, or faulty in part; it is sent again in halves."""

    endpoint: str
    stream: Stream
    records: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused:
    """The endpoint refused records for good; they are set aside as dead letters."""

    endpoint: str
    stream: Stream
    records: int
    code: str
    why: str
