"""One shared answer to "may I send now?": an endpoint that is down meets one probing courier, not all of them.

States: ok -> delayed (it asked for patience, or cannot be reached) or held (only an operator can cure it) -> ok.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otelbridge.queue.outcome import Hold, RetryLater
from otelbridge.send.ladder import Random, equal_jitter_seconds, full_jitter_seconds, with_server_delay_seconds
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
class Weather:
    """For status and metrics."""

    state: EndpointState
    why: str
    since_seconds: float
    """How long it has been so."""
    next_try_seconds: float
    """0 when there is nothing to wait for."""


class Patience:
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

    def weather(self) -> Weather:
        """The state now."""
        with self._changed:
            now = self._clock()
            waiting = self._state is not EndpointState.OK
            return Weather(
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
