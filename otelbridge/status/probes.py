"""Pulses, subscriptions and the queue's depth go in; alive, ready, started come out, with the reason for each no.

Liveness looks at the bridge's own threads only: a relay, a Collector or a disk that is away is no reason to be killed.
Readiness is for operators and rollouts, since no traffic is routed to a bridge: it says whether this one sees, and has
room for what it sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from otelbridge.telemetry.pulse import Pulse

QUEUE_FULL_SHARE = 0.9
"""A queue filled so far is about to drop records."""
SEEING = frozenset({"watching", "suspect"})
ENDING = frozenset({"draining", "closed"})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the readiness probe needs to know of one subscription."""

    upstream: str
    state: str
    """A state of the feed's state machine."""
    blind_seconds: float
    """How long it has not been watching; 0 while it is."""
    why: str = ""


def livez(pulses: Iterable[Pulse], *, max_silence_seconds: float) -> ProbeResult:
    """Alive: each thread of ours has turned lately."""
    return ProbeResult(
        checks=tuple(
            Check(
                name=f"thread {pulse.name}",
                ok=age <= max_silence_seconds,
                why=f"turned {age:.1f} s ago"
                + ("" if age <= max_silence_seconds else f", allowed {max_silence_seconds:g} s"),
            )
            for pulse, age in ((pulse, pulse.age_seconds()) for pulse in pulses)
        )
    )


def readyz(
    watches: Iterable[Watch],
    *,
    queue_bytes: int,
    queue_max_bytes: int,
    grace_seconds: float,
) -> ProbeResult:
    """Ready: every upstream is watched, or on the fast ladder for less than the grace time; the queue has room."""
    subscriptions = [_watch(watch, grace_seconds) for watch in watches]
    if not subscriptions:
        subscriptions = [Check(name="subscriptions", ok=False, why="there is none yet")]
    share = queue_bytes / queue_max_bytes if queue_max_bytes else 0.0
    room = Check(
        name="queue",
        ok=share < QUEUE_FULL_SHARE,
        why=f"{share:.0%} full" + ("" if share < QUEUE_FULL_SHARE else f", ready below {QUEUE_FULL_SHARE:.0%}"),
    )
    return ProbeResult(checks=(*subscriptions, room))


def startupz(*, rooms: Iterable[tuple[str, bool]]) -> ProbeResult:
    """Started: each room is open (settings checked, queue recovered, feed running)."""
    return ProbeResult(
        checks=tuple(Check(name=name, ok=is_open, why="open" if is_open else "not open yet") for name, is_open in rooms)
    )


def _watch(watch: Watch, grace_seconds: float) -> Check:
    name = f"subscription {watch.upstream}"
    because = f": {watch.why}" if watch.why else ""
    if watch.state in SEEING:
        return Check(name=name, ok=True, why=watch.state)
    if watch.state in ENDING:
        return Check(name=name, ok=False, why=f"{watch.state}{because}")
    if watch.state == "holding":
        return Check(name=name, ok=False, why=f"holding, only an operator can cure it{because}")
    within = watch.blind_seconds <= grace_seconds
    limit = f", {'within' if within else 'beyond'} the grace time of {grace_seconds:g} s"
    return Check(name=name, ok=within, why=f"{watch.state}, blind for {watch.blind_seconds:.0f} s{limit}{because}")
