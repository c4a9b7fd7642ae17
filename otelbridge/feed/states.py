"""The life of a subscription, and of each of its streams, written down: the states and the moves between them.

Probes, spans, metrics and the status page read these states; nothing else decides what is going on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar


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
    """The connection is lost; the next attempt follows by the fast ladder."""
    HOLDING = "holding"
    """Only an operator can cure the cause; the next attempt follows by the slow ladder."""
    DRAINING = "draining"
    """Asked to stop: the streams are being cancelled and what they brought is in the hand-off."""
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
    """This stream alone ended; it is opened again on the same connection by the fast ladder."""
    HOLDING = "holding"
    """This stream alone cannot be had (the server does not know it, or denies it); tried by the slow ladder."""


_SUBSCRIPTION = SubscriptionState
_STREAM = StreamState

SUBSCRIPTION_MOVES: Mapping[SubscriptionState, frozenset[SubscriptionState]] = {
    _SUBSCRIPTION.IDLE: frozenset({_SUBSCRIPTION.CONNECTING, _SUBSCRIPTION.DRAINING}),
    _SUBSCRIPTION.CONNECTING: frozenset(
        {_SUBSCRIPTION.WATCHING, _SUBSCRIPTION.WAITING, _SUBSCRIPTION.HOLDING, _SUBSCRIPTION.DRAINING}
    ),
    _SUBSCRIPTION.WATCHING: frozenset(
        {_SUBSCRIPTION.SUSPECT, _SUBSCRIPTION.WAITING, _SUBSCRIPTION.HOLDING, _SUBSCRIPTION.DRAINING}
    ),
    _SUBSCRIPTION.SUSPECT: frozenset(
        {_SUBSCRIPTION.WATCHING, _SUBSCRIPTION.WAITING, _SUBSCRIPTION.HOLDING, _SUBSCRIPTION.DRAINING}
    ),
    _SUBSCRIPTION.WAITING: frozenset({_SUBSCRIPTION.CONNECTING, _SUBSCRIPTION.DRAINING}),
    _SUBSCRIPTION.HOLDING: frozenset({_SUBSCRIPTION.CONNECTING, _SUBSCRIPTION.DRAINING}),
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


class IllegalMoveError(RuntimeError):
    """A move that the table does not have: a fault in this program, never in its surroundings."""


class Machine(Generic[State]):
    """One state and when it was entered. Moved by one thread, read by any."""

    __slots__ = ("_moves", "since_unix_nano", "state")

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


def states_table() -> str:
    """The subscription's states and moves as a Markdown table, for the documentation."""
    lines = ["| state | moves to |", "|---|---|"]
    lines += [f"| {before} | {', '.join(sorted(after)) or '(final)'} |" for before, after in SUBSCRIPTION_MOVES.items()]
    return "\n".join(lines)
