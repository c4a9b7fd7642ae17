"""What the couriers did, in plain integers: read by metrics and status, never waited for."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otelbridge.net.backoff import Random, equal_jitter_seconds, full_jitter_seconds, with_server_delay_seconds
from otelbridge.queue.model import Hold, RetryLater
from otelbridge.send.settings import SendSettings


class EndpointState(StrEnum):
    """What the endpoint is to us now."""

    OK = "ok"
    DELAYED = "delayed"
    HELD = "held"


class Permit(NamedTuple):
    """Leave to send one request; given back with its outcome."""

    era: int
    """Which stretch of good or bad weather it was given in."""
    probe: bool
    """It is the only one under way while the endpoint is not ok."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """For status and metrics."""

    state: EndpointState
    why: str
    since_seconds: float
    """How long it has been so."""
    next_try_seconds: float
    """0 when there is nothing to wait for."""


class CircuitBreaker:
    """Thread-safe.

    Args:
        settings: the ladders.
        clock: monotonic seconds.
        random: uniform from 0 to 1.
    """

    def __init__(self, settings: SendSettings, *, clock: Callable[[], float], random: Random) -> None:
        self._settings, self._clock, self._random = settings, clock, random
        self._changed = threading.Condition()
        self._state = EndpointState.OK
        self._why = ""
        self._since = clock()
        self._era = 0
        self._step = 0
        self._next_try = 0.0
        self._probing: int | None = None
        """The era of the probe under way."""
        self._stopped = False
        self._last_moment: float | None = None

    def ask(self, *, within_seconds: float) -> Permit | None:
        """A permit, as soon as there is one; None when there is none in time, or nothing is to be sent any more."""
        deadline = self._clock() + within_seconds
        with self._changed:
            while not self._over():
                if self._state is EndpointState.OK:
                    return Permit(self._era, probe=False)
                now = self._clock()
                if self._probing is None and now >= self._next_try:
                    self._probing = self._era
                    return Permit(self._era, probe=True)
                until = deadline if self._probing is not None else min(deadline, self._next_try)
                if now >= deadline:
                    return None
                self._changed.wait(max(0.0, until - now))
            return None

    def accepted(self, permit: Permit) -> float:
        """The endpoint took a request. Returns the seconds of bad weather that this ends, 0 when there was none.

        A request that was sent before the weather changed says nothing about it: a delay asked for since then stands.
        """
        with self._changed:
            self._give_back(permit)
            if permit.era != self._era:
                return 0.0
            self._step = 0
            if self._state is EndpointState.OK:
                return 0.0
            return self._enter(EndpointState.OK, "", 0.0)

    def failed(self, permit: Permit, outcome: RetryLater | Hold) -> float | None:
        """The endpoint did not take it. Returns the seconds until the next try, None if another permit saw the same.

        Several requests under way when the endpoint goes down are one step of the ladder, not several.
        """
        with self._changed:
            self._give_back(permit)
            if permit.era != self._era:
                return None
            held = isinstance(outcome, Hold)
            if held != (self._state is EndpointState.HELD):
                self._step = 0  # each ladder begins with its own first step
            delay = self._hold_seconds() if isinstance(outcome, Hold) else self._retry_seconds(outcome)
            self._step += 1
            self._enter(EndpointState.HELD if held else EndpointState.DELAYED, outcome.why, delay)
            return delay

    def unused(self, permit: Permit) -> None:
        """Nothing was sent on it, or its outcome says nothing about the endpoint."""
        with self._changed:
            self._give_back(permit)
            self._changed.notify_all()

    @property
    def held(self) -> bool:
        """Whether an operator is awaited."""
        return self._state is EndpointState.HELD

    def cured(self) -> None:
        """What the operator was awaited for has been done, it seems: the next try is now."""
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

    def weather(self) -> BreakerState:
        """The state now."""
        with self._changed:
            now = self._clock()
            waiting = self._state is not EndpointState.OK
            return BreakerState(
                state=self._state,
                why=self._why,
                since_seconds=now - self._since,
                next_try_seconds=max(0.0, self._next_try - now) if waiting else 0.0,
            )

    def _retry_seconds(self, outcome: RetryLater) -> float:
        settings = self._settings
        ladder = full_jitter_seconds(
            self._step, initial=settings.retry_initial_seconds, longest=settings.retry_max_seconds, random=self._random
        )
        return with_server_delay_seconds(
            ladder, outcome.after_seconds, longest=settings.server_delay_max_seconds, random=self._random
        )

    def _hold_seconds(self) -> float:
        settings = self._settings
        return equal_jitter_seconds(
            self._step, initial=settings.hold_initial_seconds, longest=settings.hold_max_seconds, random=self._random
        )

    def _enter(self, state: EndpointState, why: str, delay: float) -> float:
        """Returns the seconds spent in the state left."""
        now = self._clock()
        spent = now - self._since
        if state is not self._state:
            self._since = now
        self._state, self._why = state, why
        self._era += 1
        self._probing = None  # a probe of an earlier era no longer keeps others waiting
        self._next_try = now + delay
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
        pointless = self._state is not EndpointState.OK and self._next_try > self._last_moment
        return pointless or self._clock() >= self._last_moment


DURATION_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those that OpenTelemetry advises for request durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """A snapshot of the room."""

    endpoint: str
    state: EndpointState
    why: str
    """Why it is not ok; holds no secrets."""
    since_seconds: float
    next_try_seconds: float
    replay_records_per_second: float | None
    """What the backlog is held to; None when nothing is."""
    in_flight: int
    requests: int
    """Sent, whatever came of them."""
    request_bytes: int
    """Of those, before compression."""
    accepted_requests: int
    delivered_records: int
    rejected_records: int
    """By partial successes."""
    retries: int
    """Requests that came back: delayed or held."""
    splits: int
    dead_letter_records: int
    duration_counts: tuple[int, ...]
    """Requests per bucket of `DURATION_BOUNDS_SECONDS`, the last one for longer ones."""
    duration_sum_seconds: float


class SendCounts:
    """The counters; one short lock, a few times per request and never per record."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.in_flight = 0
        self.requests = 0
        self.request_bytes = 0
        self.accepted_requests = 0
        self.delivered_records = 0
        self.rejected_records = 0
        self.retries = 0
        self.splits = 0
        self.dead_letter_records = 0
        self.duration_counts = [0] * (len(DURATION_BOUNDS_SECONDS) + 1)
        self.duration_sum_seconds = 0.0

    @contextmanager
    def counting(self) -> Iterator[SendCounts]:
        """The counters, for adding to."""
        with self._lock:
            yield self

    def sent(self, request_bytes: int, seconds: float) -> None:
        """A request was answered, or failed."""
        with self._lock:
            self.requests += 1
            self.request_bytes += request_bytes
            self.duration_counts[bisect_left(DURATION_BOUNDS_SECONDS, seconds)] += 1
            self.duration_sum_seconds += seconds
