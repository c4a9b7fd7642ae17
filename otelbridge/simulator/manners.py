"""How a simulated KubeArmor behaves: which server it plays, what it answers, how it ends its streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import grpc

from otelbridge.event import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The fixed traits of one of KubeArmor's two servers."""

    queue_limits: Mapping[Stream, int]
    """Events that wait for one client before more are dropped without a word."""
    ping_seconds: float
    """Silence after which the server pings the client."""
    ping_timeout_seconds: float
    """A server's ping that stays unanswered for so long ends the connection."""


RELAY = Profile(
    queue_limits={Stream.ALERTS: 1_000, Stream.LOGS: 10_000, Stream.MESSAGES: 1_000},
    ping_seconds=5,
    ping_timeout_seconds=20,
)
"""The relay that fans a cluster's nodes in."""

NODE = Profile(
    queue_limits={Stream.ALERTS: 1_000, Stream.LOGS: 1_000, Stream.MESSAGES: 1_000},
    ping_seconds=1,
    ping_timeout_seconds=5,
)
"""The KubeArmor daemon of one node."""


class HealthAnswer(StrEnum):
    """What `HealthCheck` does with a nonce."""

    ECHO = "echo"
    """Sends it back, as KubeArmor does."""
    WRONG_NONCE = "wrong_nonce"
    """Sends another number back."""
    HANG = "hang"
    """Takes the call and never answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The status that ends a stream."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What can be changed while the simulator runs; it holds for the calls that come in from then on."""

    health: HealthAnswer | Ending = HealthAnswer.ECHO
    """An `Ending` fails every `HealthCheck` with that status (UNIMPLEMENTED: a KubeArmor without it)."""
    openings: Mapping[Stream, Ending] = field(default_factory=dict)
    """Streams that are ended before their headers are sent (UNIMPLEMENTED: a KubeArmor without that stream)."""
    standard_health: bool = False
    """Whether `grpc.health.v1.Health/Check` is served. The relay never did; nodes did until mid 2026."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """The server's certificate, and the CA of its clients where they must show one. Read anew at each start."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
