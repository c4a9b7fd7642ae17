"""When the encoder's next turn begins: the size of one turn and its time go in, the moment of the next comes out.

A turn costs a millisecond whatever is in it (wake-ups, commits, a request), and each batch repeats the resources of its
records. So events are gathered, for as long as nobody minds; docs/decisions/pacing.md has the figures.
"""

from __future__ import annotations

GATHER_EVENTS = 10
"""At low rates a turn waits for so many."""
GATHER_MIN_SECONDS = 0.008
GATHER_SECONDS_PER_RATE = 0.002 / 1000
"""From 1,000 events/s on it waits 10 ms, and 2 ms more per further 1,000."""
GATHER_MAX_SECONDS = 0.03
"""But never longer."""
SHORTEST_TURN_SECONDS = 0.0001


def gather_seconds(events_per_second: float) -> float:
    """How far apart turns begin at a rate."""
    for_events = GATHER_EVENTS / max(events_per_second, 1.0)
    return min(max(for_events, GATHER_MIN_SECONDS + events_per_second * GATHER_SECONDS_PER_RATE), GATHER_MAX_SECONDS)


class Pace:
    """Sans clock: every call is given the time, in monotonic seconds. The encoder's alone.

    An event after a quiet moment is not kept waiting: the moment of the next turn has passed then.
    """

    def __init__(self) -> None:
        self._taken_at = 0.0
        self._next_turn_at = 0.0

    def early_seconds(self, now: float) -> float:
        """How long it is until the next turn; negative when that moment has passed."""
        return self._next_turn_at - now

    def took(self, events: int, now: float) -> None:
        """A turn has taken so many events, at least one."""
        rate = events / max(now - self._taken_at, SHORTEST_TURN_SECONDS)
        self._next_turn_at = now + gather_seconds(rate)
        self._taken_at = now
