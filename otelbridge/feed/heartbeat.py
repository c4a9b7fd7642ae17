"""Sends one health check at a time on the streams' own channel, and judges the answers.

A failed unary call never ends a stream that hangs, so the verdict `DEAD` means that the channel has to be closed by us.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import grpc

from otelbridge.feed.channel import start_health_check, start_nonce_check

JITTER = 0.1
"""Of the interval, either way: 5,000 bridges started by one rollout must not ask in step."""

NONCE_LIMIT = 2**31 - 1

DEADLY_MISSES = 2


class Method(StrEnum):
    """How the upstream is asked, from the strongest proof to the weakest."""

    NONCE = "nonce"
    """LogService.HealthCheck sends a number back. Deprecated upstream, so it may go."""
    HEALTH = "grpc.health.v1"
    KEEPALIVE = "keepalive"
    """Neither is there: HTTP/2 pings have to do. The nonce is still asked for: the refusal alone proves a live peer,
    its headers clear the ping strikes of a grpc-go server, and a server that learns it is noticed."""


REFUSED_THEN = {Method.NONCE: Method.HEALTH, Method.HEALTH: Method.KEEPALIVE, Method.KEEPALIVE: Method.KEEPALIVE}

REFUSALS = frozenset(
    {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
)
"""Statuses that a live peer answers with when it will not have the question."""


class HealthStatus(StrEnum):
    """What a health check's outcome means for the connection."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


def judge(misses: int, *, received_since_asking: bool) -> HealthStatus:
    """One miss makes suspect, two make dead - and one is enough when nothing else came in either.

    Args:
        misses: health checks in a row without an answer.
        received_since_asking: an event arrived after the question went out: a starved relay is not a dead one.
    """
    if not misses:
        return HealthStatus.ALIVE
    if misses >= DEADLY_MISSES or not received_since_asking:
        return HealthStatus.DEAD
    return HealthStatus.SUSPECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of one health check."""

    alive: bool
    method: Method
    seconds: float
    asked: float
    """When the question went out, on the monotonic clock."""
    unix_nano: int
    """When the answer came."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    why: str = ""
    """What was wrong, where it was not alive."""
    probe: bool = False
    """It was asked ahead of time: how late it came tells a stall, but it does not decide whether the peer lives."""


class Heartbeat:
    """Asks one upstream, and remembers from connection to connection how it wants to be asked."""

    def __init__(self, *, interval_seconds: float, timeout_seconds: float, random: Random) -> None:
        self.method = Method.NONCE
        self.timeout_seconds = timeout_seconds
        self._interval_seconds = interval_seconds
        self._random = random

    def pause_seconds(self) -> float:
        """Seconds until the next question."""
        return self._interval_seconds * self._random.uniform(1 - JITTER, 1 + JITTER)

    def ask(self, channel: grpc.Channel, answered: Callable[[Answer], None], *, probe: bool = False) -> None:
        """Sends one health check; `answered` is called once, from a thread of gRPC's, also when the channel closes."""
        method, started = self.method, time.monotonic()
        nonce = self._random.randint(1, NONCE_LIMIT)
        timeout_seconds = self.timeout_seconds + (self._interval_seconds if probe else 0)
        future = (
            start_health_check(channel, timeout_seconds)
            if method is Method.HEALTH
            else start_nonce_check(channel, nonce, timeout_seconds)
        )
        future.add_done_callback(lambda done: answered(self._read(done, method, nonce, started, probe=probe)))

    def _read(self, done: grpc.Future, method: Method, nonce: int, asked: float, *, probe: bool) -> Answer:
        code, why = done.code(), ""
        if code is grpc.StatusCode.OK:
            self.method = Method.HEALTH if method is Method.HEALTH else Method.NONCE
            if method is not Method.HEALTH and done.result().Retval != nonce:
                why = "it answered with another number than it was sent: is it KubeArmor?"
        elif code in REFUSALS:
            self.method = REFUSED_THEN[method]
        else:
            why = done.details() or "no details"
        return Answer(
            alive=not why,
            method=self.method,
            seconds=time.monotonic() - asked,
            asked=asked,
            unix_nano=time.time_ns(),
            code=code,
            why=why,
            probe=probe,
        )
