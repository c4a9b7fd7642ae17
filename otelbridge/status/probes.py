"""Judges whether the bridge is alive, ready and started, with the reason for each no.

Liveness looks at the bridge's own threads only: a relay, a Collector or a disk that is away is no reason to be killed.
Readiness is for operators and rollouts, since no traffic is routed to a bridge: it says whether this one sees, and has
room for what it sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otelbridge.event import NANOSECONDS
from otelbridge.feed.model import StreamState, SubscriptionState, SubscriptionStatus
from otelbridge.telemetry.supervisor import Pulse

QUEUE_FULL_SHARE = 0.9
"""A queue filled so far is about to drop records."""
ENDING = frozenset({SubscriptionState.DRAINING, SubscriptionState.CLOSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question of a probe."""

    name: str
    ok: bool
    why: str
    """One sentence, also when it is ok."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The answer of a probe: yes if every check says so."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is ok."""
        return all(check.ok for check in self.checks)


def livez(pulses: Iterable[Pulse], *, max_silence_seconds: float) -> ProbeResult:
    """Alive: each thread of ours has turned lately, and does not fail again and again."""
    return ProbeResult(checks=tuple(_thread(pulse, max_silence_seconds) for pulse in pulses))


def _thread(pulse: Pulse, max_silence_seconds: float) -> Check:
    age = pulse.age_seconds()
    name, why = f"thread {pulse.name}", f"turned {age:.1f} s ago"
    if pulse.fails:
        return Check(name=name, ok=False, why=f"failed {pulse.faults_in_a_row} times in a row: {pulse.fault}")
    if age > max_silence_seconds:
        return Check(name=name, ok=False, why=f"{why}, allowed {max_silence_seconds:g} s")
    return Check(name=name, ok=True, why=why)


def readyz(
    subscriptions: Iterable[SubscriptionStatus],
    held_bytes: int,
    *,
    max_bytes: int,
    grace_seconds: float,
    clock: Callable[[], int] = time.time_ns,
) -> ProbeResult:
    """Ready: each stream is watched, or on the fast backoff within the grace time, and the queue has room.

    Args:
        subscriptions: what the feed says of each upstream.
        held_bytes: what the queue holds.
        max_bytes: what it may hold.
        grace_seconds: how long a stream may be blind while it is being reconnected.
        clock: Unix nanoseconds.
    """
    now = clock()
    watched = [_subscription(subscription, grace_seconds, now) for subscription in subscriptions]
    if not watched:
        watched = [Check(name="subscriptions", ok=False, why="there is none yet")]
    share = held_bytes / max_bytes
    full = share >= QUEUE_FULL_SHARE
    limit = f", ready below {QUEUE_FULL_SHARE:.0%}" if full else ""
    return ProbeResult(checks=(*watched, Check(name="queue", ok=not full, why=f"{share:.0%} full{limit}")))


def startupz(*, started: bool) -> ProbeResult:
    """Started: settings checked, queue recovered, every thread running."""
    why = "every component is open" if started else "components are still being opened"
    return ProbeResult(checks=(Check(name="bridge", ok=started, why=why),))


def _subscription(status: SubscriptionStatus, grace_seconds: float, now_unix_nano: int) -> Check:
    ok, why = _seeing(status, grace_seconds, now_unix_nano)
    return Check(name=f"subscription {status.upstream}", ok=ok, why=why)


def _seeing(status: SubscriptionStatus, grace_seconds: float, now_unix_nano: int) -> tuple[bool, str]:
    because = f": {status.last_error}" if status.last_error else ""
    if status.state in ENDING:
        return False, f"{status.state}"
    if status.covered_by:
        return True, f"{status.state}, but {status.covered_by}, a road to the same events, is watched{because}"
    if status.state is SubscriptionState.HOLDING:
        return False, f"holding, only an operator can cure it{because}"
    held = [f"{name}: {stream.error}" for name, stream in status.streams.items() if stream.state is StreamState.HOLDING]
    if held:
        return False, f"the server does not give us {'; '.join(held)}"
    if status.blind_since_unix_nano is None:
        return True, f"{status.state}{_unheard(status, now_unix_nano)}"
    blind_seconds = max(0.0, (now_unix_nano - status.blind_since_unix_nano) / NANOSECONDS)
    within = blind_seconds <= grace_seconds
    limit = f"{'within' if within else 'beyond'} the grace time of {grace_seconds:g} s"
    return within, f"{status.state}, blind for {blind_seconds:.0f} s, {limit}{because}"


def _unheard(status: SubscriptionStatus, now_unix_nano: int) -> str:
    """What a subscription that is watched may miss all the same."""
    if status.unheard_since_unix_nano is not None:
        seconds = max(0.0, (now_unix_nano - status.unheard_since_unix_nano) / NANOSECONDS)
        return f"; connected for {seconds:.0f} s, but no node has sent anything"
    if status.silent_nodes:
        return f"; silent against their habit: {', '.join(status.silent_nodes)}"
    return f"; health checks say nothing: {status.unchecked}" if status.unchecked else ""
