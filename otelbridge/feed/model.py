"""The data types of the feed: states and transitions, the status of a subscription and its streams, kinds of loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import grpc

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed.status_codes import SLOW_CLASSES, TOO_LARGE, ErrorClass, classify, configuration_fault, gap_cause


class SubscriptionState(StrEnum):
    """Where a subscription to one upstream stands."""

    IDLE = "idle"
    """Not started, or waiting for its share of the initial spread."""
    CONNECTING = "connecting"
    """An attempt is under way: resolve, certificates, health, subscribe."""
    WATCHING = "watching"
    """The upstream answered a health check after the Watch calls were started, and at least one of them goes on."""
    SUSPECT = "suspect"
    """A health check was missed; the next one decides."""
    WAITING = "waiting"
    """The connection is lost; the next attempt follows by the fast backoff."""
    HOLDING = "holding"
    """Only an operator can cure the cause; the next attempt follows by the slow backoff."""
    DRAINING = "draining"
    """Asked to stop: the streams are being cancelled and what they brought is in the buffer."""
    CLOSED = "closed"
    """Everything is released. Final."""


class StreamState(StrEnum):
    """Where one stream of a subscription stands."""

    CLOSED = "closed"
    """No Watch call: the connection is not up."""
    OPENING = "opening"
    """The Watch call is started; nothing is known yet, because KubeArmor sends no headers on a quiet stream."""
    WATCHING = "watching"
    """An event arrived, or a health check was answered after the call was started."""
    WAITING = "waiting"
    """This stream alone ended; it is opened again on the same connection by the fast backoff."""
    HOLDING = "holding"
    """This stream alone cannot be had (the server does not know it, or denies it); tried by the slow backoff."""


_SUBSCRIPTION, _STREAM = SubscriptionState, StreamState
_LOST = frozenset({_SUBSCRIPTION.WAITING, _SUBSCRIPTION.HOLDING, _SUBSCRIPTION.DRAINING})
_TRIED = frozenset({_SUBSCRIPTION.CONNECTING, _SUBSCRIPTION.DRAINING})

SUBSCRIPTION_MOVES: Mapping[SubscriptionState, frozenset[SubscriptionState]] = {
    _SUBSCRIPTION.IDLE: _TRIED,
    _SUBSCRIPTION.CONNECTING: _LOST | {_SUBSCRIPTION.WATCHING},
    _SUBSCRIPTION.WATCHING: _LOST | {_SUBSCRIPTION.SUSPECT},
    _SUBSCRIPTION.SUSPECT: _LOST | {_SUBSCRIPTION.WATCHING},
    _SUBSCRIPTION.WAITING: _TRIED,
    _SUBSCRIPTION.HOLDING: _TRIED,
    _SUBSCRIPTION.DRAINING: frozenset({_SUBSCRIPTION.CLOSED}),
    _SUBSCRIPTION.CLOSED: frozenset(),
}

STREAM_MOVES: Mapping[StreamState, frozenset[StreamState]] = {
    _STREAM.CLOSED: frozenset({_STREAM.OPENING}),
    _STREAM.OPENING: frozenset({_STREAM.WATCHING, _STREAM.WAITING, _STREAM.HOLDING, _STREAM.CLOSED}),
    _STREAM.WATCHING: frozenset({_STREAM.WAITING, _STREAM.HOLDING, _STREAM.CLOSED}),
    _STREAM.WAITING: frozenset({_STREAM.OPENING, _STREAM.CLOSED}),
    _STREAM.HOLDING: frozenset({_STREAM.OPENING, _STREAM.CLOSED}),
}

State = TypeVar("State", bound=StrEnum)


class IllegalMoveError(Exception):
    """A move that the table does not have: a fault in this program, never in its surroundings."""


class Machine(Generic[State]):
    """One state and when it was entered. Moved by one thread, read by any."""

    def __init__(self, initial: State, moves: Mapping[State, frozenset[State]]) -> None:
        self._moves = moves
        self.state = initial
        self.since_unix_nano = time.time_ns()

    def move(self, after: State) -> State:
        """Moves on, and returns the state before.

        Raises:
            IllegalMoveError: the table has no such move.
        """
        before = self.state
        if after not in self._moves[before]:
            raise IllegalMoveError(f"there is no move from {before} to {after}")
        self.state = after
        self.since_unix_nano = time.time_ns()
        return before


@dataclass(frozen=True, slots=True)
class StateChange:
    """A subscription entered a state."""

    unix_nano: int
    state: SubscriptionState
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """One stream of a subscription. Counts are since the start and never go back."""

    state: StreamState
    since_unix_nano: int
    events: int
    bytes: int
    last_event_unix_nano: int
    """0 before the first event."""
    blind_since_unix_nano: int | None
    """Since when nothing can be seen; None while it is watched."""
    events_per_second: float | None
    """The recent mean; None until it was measured."""
    ends: Mapping[str, int]
    """Ends that we did not ask for, by gRPC status name."""
    oversized: int
    """Ends by an event larger than `max_message_bytes`."""
    error: str
    """Why it is not watched, or why it last was not."""
    error_class: str

    @property
    def watched(self) -> bool:
        """Whether nothing of this stream is being missed."""
        return self.blind_since_unix_nano is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStatus:
    """One subscription to one upstream."""

    upstream: str
    state: SubscriptionState
    since_unix_nano: int
    streams: Mapping[Stream, StreamStatus]
    attempts: int
    """All attempts since the start."""
    attempts_in_a_row: int
    """Since the last healthy connection."""
    last_error: str
    error_class: str
    """Of the last error; both are empty once the upstream is watched again."""
    next_attempt_in_seconds: float | None
    connection_id: str
    blind_since_unix_nano: int | None
    """Since when at least one stream is blind; None while all are watched."""
    last_heartbeat_unix_nano: int
    heartbeat_method: str
    keepalive_seconds: float
    certificate_expires_unix_seconds: int | None
    why: str = ""
    """What led to that state; empty where nothing has to be said."""
    timeline: tuple[StateChange, ...] = ()
    """The latest changes of state, oldest first; the last one is the present state."""
    unheard_since_unix_nano: int | None = None
    """Since when this connection is watched without any event: no node behind it has been heard yet. Else None."""
    unchecked: str = ""
    """Why health checks say nothing of this connection, so that a frozen server behind a proxy may go unnoticed."""
    nodes_seen: int = 0
    """Nodes that were heard behind this upstream, and are not forgotten."""
    silent_nodes: tuple[str, ...] = ()
    """Those of them that are silent now, for much longer than they used to be."""

    covered_by: str = ""
    """Another road to the same events on which all is watched that is not on this one; empty while nothing is blind."""

    @property
    def last_event_unix_nano(self) -> int:
        """When the last event of any stream was received; 0 before the first."""
        return max((status.last_event_unix_nano for status in self.streams.values()), default=0)

    @property
    def watching(self) -> tuple[Stream, ...]:
        """The streams of which nothing is being missed."""
        return tuple(stream for stream, status in self.streams.items() if status.watched)


Record = Callable[[Gap | None], None]
"""Puts a gap on record, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a Watch call ended."""

    stream: Stream
    code: grpc.StatusCode
    details: str
    events: int
    lived_seconds: float
    ended_unix_nano: int
    read_until_unix_nano: int
    """Up to when all that had come was read: what waited then is lost."""

    @property
    def oversized(self) -> bool:
        """An event larger than `feed.max_message_bytes` has ended it, and is lost."""
        return self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in self.details


@dataclass(kw_only=True, eq=False)
class ConnectionLostError(Exception):
    """An attempt failed, or a connection that was watched is over. Not frozen: Python sets a traceback on it."""

    code: grpc.StatusCode
    details: str
    error_class: ErrorClass
    step: str = ""
    """The step of the attempt that failed; empty when the upstream had been watched."""
    cause: GapCause = GapCause.DISCONNECT
    healthy: bool = False
    quick: bool = False

    @property
    def slow(self) -> bool:
        """Whether it is tried again by the slow backoff: somebody has to cure it."""
        return self.error_class in SLOW_CLASSES

    def __str__(self) -> str:
        where = f"{self.step}: " if self.step else ""
        return f"{where}{self.code.name}: {self.details or 'no details'}"


def failed_step(step: str, code: grpc.StatusCode, details: str) -> ConnectionLostError:
    """An attempt that got no further than this step."""
    verdict = classify(code, details)
    cure = configuration_fault(details) if verdict.error_class is ErrorClass.CONFIGURATION else ""
    return ConnectionLostError(
        code=code,
        details=f"{cure} ({details})" if cure else details,
        error_class=verdict.error_class,
        step=step,
        cause=gap_cause(code, details),
    )


def misconfigured(step: str, why: str) -> ConnectionLostError:
    """An attempt that an operator has to help, by what we found out ourselves."""
    return ConnectionLostError(
        code=grpc.StatusCode.FAILED_PRECONDITION, details=why, error_class=ErrorClass.CONFIGURATION, step=step
    )
