"""The circuit breaker: whether a request may be sent now. Probes, metrics and status read the endpoint's state here.

| state | event | next state |
|---|---|---|
| any | a request is accepted | delivering |
| any | the endpoint asks for time, or cannot be reached | delayed: one probe at a time, full jitter from 1 s to 60 s |
| any | only an operator can cure it | held: one probe at a time, 30 s to 5 min; at once when a file has changed |
| any | INTERNAL, 500 and the like | unchanged for up to 32 in a row: they may be chance, or a record's fault |
| any | UNAVAILABLE, 503, a reset | delayed; unchanged for some in a row where such runs come to nothing all the time |
| delayed | the probe meets one of these | unchanged for up to 4 in a row, then a longer delay |
| delayed or held by a request under suspicion | there is another | that one is the probe, at once |
| any | a smaller request would tell whether size is to blame | unchanged; that one goes at once |
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otelbridge.net.backoff import Random, equal_jitter_seconds, full_jitter_seconds, with_server_delay_seconds
from otelbridge.queue.model import Hold, RetryLater
from otelbridge.send.settings import SendSettings

BURST_FAILURES = 32
"""Failures in a row that may be chance, before the first step of the backoff; half as many before each further step.
At 85 % of failures by chance a burst of 32 ends without a success once in 180 times."""

CHANCE_RUNS = 4
CHANCE_RUN_SECONDS = 30.0
"""UNAVAILABLE, 503 or a reset may be chance four times as often in a row as such runs have come to nothing, one within
so many seconds of another: of seven backends behind a balancer, one may be well."""
CHANCE_MEMORY_REQUESTS = 16
"""Accepted at the first try, in a row, and half of that is forgotten."""
PROBE_TRIES = 4
"""A probe is sent so often before the next, longer delay: where most answers fail by chance, delays must not grow
before there is anything to learn from. In the first minute of an outage that makes some 25 requests."""
NO_CHANCE = frozenset({"429", "RESOURCE_EXHAUSTED", "408", "504", "DEADLINE_EXCEEDED", "timeout"})
"""The endpoint asks for less, or may have stored what it did not answer to."""


class EndpointState(StrEnum):
    """The states of the circuit breaker."""

    IDLE = "idle"
    """It has answered nothing yet in this life."""
    DELIVERING = "delivering"
    DELAYED = "delayed"
    HELD = "held"


OPEN = frozenset({EndpointState.IDLE, EndpointState.DELIVERING})
"""Requests go as they come."""


class Permit(NamedTuple):
    """Permission to send one request; given back with its outcome."""

    era: int
    """Which stretch of one state it was given in."""
    probe: bool
    """It is the only one under way while the endpoint is delayed or held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """The circuit breaker at one moment."""

    state: EndpointState
    code: str
    why: str
    cure: str
    """Of the answer that made it delayed or held."""
    since_unix_nano: int
    delay_seconds: float
    next_try_seconds: float
    """What is left of the delay; 0 when there is nothing to wait for."""
    last_accepted_unix_nano: int | None


class CircuitBreaker:
    """Lets requests through, delays them, or holds them, by how the endpoint has answered. Thread-safe."""

    def __init__(
        self,
        settings: SendSettings,
        *,
        clock: Callable[[], float],
        random: Random,
        wall_clock_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings, self._clock, self._random = settings, clock, random
        self._wall_clock_nano = wall_clock_nano
        self._changed = threading.Condition()
        self._state = EndpointState.IDLE
        self._code = self._why = self._cure = ""
        self._since, self._since_unix_nano = clock(), wall_clock_nano()
        self._last_accepted_unix_nano: int | None = None
        self._era = 0
        self._step = 0
        self._failures = 0
        """In a row, that may be chance; since the last delay began."""
        self._run = 0
        """Failures in a row."""
        self._last_run_ended = -math.inf
        self._longest_chance = 1
        """So many failures in a row may be chance, except those that may be a record's fault."""
        self._first_tries = 0
        """Accepted in a row."""
        self._others_may_try = False
        """What made it delayed is under suspicion itself, and nothing else has failed since."""
        self._delay = 0.0
        self._next_try = 0.0
        self._probing: int | None = None
        """The era of the probe under way."""
        self._stopped = False
        self._last_moment: float | None = None

    def ask(self, *, within_seconds: float, unsuspected: bool = False) -> Permit | None:
        """A permit, as soon as there is one; None when there is none in time, or nothing is to be sent any more.

        `unsuspected`: there is something to send that is not under suspicion.
        """
        deadline = self._clock() + within_seconds
        with self._changed:
            while not self._over():
                if self._state in OPEN:
                    return Permit(self._era, probe=False)
                now = self._clock()
                ready = now >= self._next_try or (unsuspected and self._others_may_try)
                if self._probing is None and ready:
                    self._probing = self._era
                    return Permit(self._era, probe=True)
                until = deadline if self._probing is not None else min(deadline, self._next_try)
                if now >= deadline:
                    return None
                self._changed.wait(max(0.0, until - now))
            return None

    def accepted(self, permit: Permit) -> tuple[float, Permit]:
        """The endpoint took a request.

        Returns the seconds that it was delayed or held and is no more, else 0; and a permit to give back with what
        later requests of the same round met. A request that was sent before the state changed says nothing about it: a
        delay asked for since then stands.
        """
        with self._changed:
            self._give_back(permit)
            self._last_accepted_unix_nano = self._wall_clock_nano()
            self._learn_chance()
            if permit.era != self._era:
                return 0.0, permit
            self._step = 0
            if self._state is EndpointState.DELIVERING:
                return 0.0, permit
            away = self._state not in OPEN
            spent = self._enter(EndpointState.DELIVERING, None, 0.0)
            return spent if away else 0.0, Permit(self._era, probe=False)

    def failed(
        self, permit: Permit, outcome: RetryLater | Hold, *, suspected: bool = False, smaller: bool = False
    ) -> float | None:
        """The endpoint did not take it. Returns the seconds until the next try, None where the state did not change.

        Several requests under way when the endpoint goes down are one step of the backoff, not several.

        Args:
            permit: what it was sent on.
            outcome: what it met.
            suspected: it failed before, and may be to blame itself.
            smaller: the next request is smaller, to find out whether size is to blame.
        """
        with self._changed:
            self._give_back(permit)
            if permit.era != self._era:
                return None
            if smaller and not (isinstance(outcome, RetryLater) and outcome.after_seconds):
                self._next_try = self._clock()
                self._changed.notify_all()
                return None
            self._others_may_try = self._others_may_try and suspected
            if isinstance(outcome, RetryLater) and self._may_be_chance(outcome):
                self._changed.notify_all()
                return None
            held = isinstance(outcome, Hold)
            if held != (self._state is EndpointState.HELD):
                self._step = 0  # each backoff begins with its own first step
            delay = self._hold_seconds() if isinstance(outcome, Hold) else self._retry_seconds(outcome)
            self._step += 1
            self._enter(EndpointState.HELD if held else EndpointState.DELAYED, outcome, delay)
            asked = isinstance(outcome, RetryLater) and outcome.after_seconds
            perhaps_its_own_fault = isinstance(outcome, Hold) or outcome.perhaps_its_own_fault
            self._others_may_try = suspected and perhaps_its_own_fault and not asked
            return delay

    def _may_be_chance(self, outcome: RetryLater) -> bool:
        """Counts a failure; whether so many in a row may be chance."""
        self._run += 1
        self._first_tries = 0
        if outcome.after_seconds is not None or outcome.code in NO_CHANCE:
            return False
        self._failures += 1
        most = BURST_FAILURES if outcome.perhaps_its_own_fault else self._longest_chance
        tries = PROBE_TRIES if self._state is EndpointState.DELAYED and self._last_moment is None else 1
        if self._failures < max(tries, most >> self._step):
            return True
        self._failures = 0
        return False

    def _learn_chance(self) -> None:
        """A request was accepted: the failures before it, unless they were an outage, were chance."""
        if not self._run:
            self._first_tries += 1
            if self._first_tries % CHANCE_MEMORY_REQUESTS == 0:
                self._longest_chance = max(1, self._longest_chance // 2)
        else:
            now, before = self._clock(), self._last_run_ended
            self._last_run_ended = now
            if now - before <= CHANCE_RUN_SECONDS:
                self._longest_chance = min(BURST_FAILURES, max(self._longest_chance, CHANCE_RUNS * (self._run + 1)))
        self._failures = self._run = 0

    def unused(self, permit: Permit) -> None:
        """Nothing was sent on it, or its outcome says nothing about the endpoint."""
        with self._changed:
            self._give_back(permit)
            self._changed.notify_all()

    @property
    def held(self) -> bool:
        """Whether it waits for an operator."""
        return self._state is EndpointState.HELD

    def cured(self) -> None:
        """The operator seems to have cured what held it: the next try is now."""
        with self._changed:
            if self._state is EndpointState.HELD:
                self._next_try = self._clock()
                self._changed.notify_all()

    def hurry(self, *, within_seconds: float) -> None:
        """Try at once, once; and never wait for a moment that lies beyond the deadline: `ask` then returns None."""
        with self._changed:
            self._next_try = self._clock()
            self._last_moment = self._next_try + within_seconds
            self._changed.notify_all()

    def stop(self) -> None:
        """No more permits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def snapshot(self) -> BreakerState:
        """The state now."""
        with self._changed:
            left = 0.0 if self._state in OPEN else max(0.0, self._next_try - self._clock())
            return BreakerState(
                state=self._state,
                code=self._code,
                why=self._why,
                cure=self._cure,
                since_unix_nano=self._since_unix_nano,
                delay_seconds=self._delay,
                next_try_seconds=left,
                last_accepted_unix_nano=self._last_accepted_unix_nano,
            )

    def _retry_seconds(self, outcome: RetryLater) -> float:
        settings = self._settings
        backoff = full_jitter_seconds(
            self._step, initial=settings.retry_initial_seconds, longest=settings.retry_max_seconds, random=self._random
        )
        return with_server_delay_seconds(
            backoff, outcome.after_seconds, longest=settings.server_delay_max_seconds, random=self._random
        )

    def _hold_seconds(self) -> float:
        settings = self._settings
        return equal_jitter_seconds(
            self._step, initial=settings.hold_initial_seconds, longest=settings.hold_max_seconds, random=self._random
        )

    def _enter(self, state: EndpointState, because: RetryLater | Hold | None, delay: float) -> float:
        """Returns the seconds spent in the state left."""
        now = self._clock()
        spent = now - self._since
        if state is not self._state:
            self._since, self._since_unix_nano = now, self._wall_clock_nano()
        self._state = state
        self._code, self._why = (because.code, because.why) if because is not None else ("", "")
        self._cure = because.cure if isinstance(because, Hold) else ""
        self._era += 1
        self._others_may_try = False
        self._probing = None  # a probe of an earlier era no longer keeps others waiting
        self._delay, self._next_try = delay, now + delay
        self._changed.notify_all()
        return spent

    def _give_back(self, permit: Permit) -> None:
        if permit.probe and permit.era == self._probing:
            self._probing = None

    @property
    def over(self) -> bool:
        """Whether there will be no more permits: stopped, or the drain's deadline leaves nothing to wait for."""
        with self._changed:
            return self._over()

    def _over(self) -> bool:
        if self._stopped:
            return True
        if self._last_moment is None:
            return False
        pointless = self._state not in OPEN and self._next_try > self._last_moment
        return pointless or self._clock() >= self._last_moment


@dataclass(slots=True, kw_only=True)
class SendCounts:
    """What the workers did; counted with the lock of `Export` held."""

    requests: int = 0
    """Sent, whatever came of them."""
    delivered_records: int = 0
    rejected_records: int = 0
    """By partial successes."""
    dead_letter_records: int = 0
