"""Fans events out to one bounded queue per subscriber; a full one drops silently, as KubeArmor's do, but counted."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from otelbridge.event import Stream
from otelbridge.simulator.manners import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutCounts:
    """What became of a stream's events. Per subscriber: accepted = sent + waiting + discarded."""

    published: int
    unheard: int
    """Published while nobody was subscribed."""
    accepted: int
    """Put into a subscriber's queue; with two subscribers an event is accepted twice."""
    dropped: int
    """Not accepted, because that subscriber's queue was full."""
    sent: int
    """Written to the connection. What had not left this machine when the connection broke is lost all the same."""
    waiting: int
    discarded: int
    """Accepted, and still unsent when the subscriber left."""


class Subscriber:
    """One client of one stream. Its queue is written by the fan-out and read by the thread that serves the call."""

    __slots__ = ("accepted", "peer", "queue", "sent")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.queue: queue.SimpleQueue[bytes | Ending | None] = queue.SimpleQueue()
        self.accepted = 0
        self.sent = 0
        """Counted by the serving thread alone."""


class Fanout:
    """The subscribers of one stream."""

    def __init__(self, stream: Stream, queue_limit: int) -> None:
        self._stream = stream
        self._queue_limit = queue_limit
        self._changed = threading.Condition()
        self._subscribers: list[Subscriber] = []
        self._published = self._unheard = self._dropped = 0
        self._accepted_by_gone = self._sent_by_gone = 0

    def publish(self, body: bytes) -> None:
        """Gives the event to each subscriber whose queue has room. Never blocks."""
        with self._changed:
            self._published += 1
            if not self._subscribers:
                self._unheard += 1
            for subscriber in self._subscribers:
                if subscriber.accepted - subscriber.sent >= self._queue_limit:
                    self._dropped += 1
                else:
                    subscriber.accepted += 1
                    subscriber.queue.put(body)

    def join(self, subscriber: Subscriber) -> None:
        """Events published from now on reach the subscriber."""
        with self._changed:
            self._subscribers.append(subscriber)
            self._changed.notify_all()

    def leave(self, subscriber: Subscriber) -> None:
        """Ends the subscriber's queue; what waits in it is discarded. A second call changes nothing."""
        with self._changed:
            if subscriber not in self._subscribers:
                return
            self._subscribers.remove(subscriber)
            self._accepted_by_gone += subscriber.accepted
            self._sent_by_gone += subscriber.sent
            self._changed.notify_all()
        subscriber.queue.put(None)

    def end(self, ending: Ending) -> int:
        """Ends each subscriber's stream behind what waits for it; returns how many there were."""
        with self._changed:
            for subscriber in self._subscribers:
                subscriber.queue.put(ending)
            return len(self._subscribers)

    def close(self) -> None:
        """Lets everyone leave."""
        with self._changed:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            self.leave(subscriber)

    def tell_sent(self) -> None:
        """A serving thread says that it has sent all that it had."""
        with self._changed:
            self._changed.notify_all()

    def room(self) -> int:
        """How many events the fullest queue would still take; the limit when nobody is subscribed."""
        with self._changed:
            return self._queue_limit - max((each.accepted - each.sent for each in self._subscribers), default=0)

    def subscribers(self) -> int:
        """How many are subscribed now."""
        with self._changed:
            return len(self._subscribers)

    def wait_for_subscribers(self, number: int, deadline: float) -> bool:
        """Whether at least (for 0: at most) `number` were subscribed before `time.monotonic()` reached the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._subscribers) >= number if number else not self._subscribers,
                timeout=max(0.0, deadline - time.monotonic()),
            )

    def wait_until_sent(self, deadline: float) -> bool:
        """Whether nothing waited in any queue before `time.monotonic()` reached the deadline."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(each.sent == each.accepted for each in self._subscribers),
                timeout=max(0.0, deadline - time.monotonic()),
            )

    def counts(self) -> FanoutCounts:
        """What became of this stream's events up to now."""
        with self._changed:
            accepted = sum(each.accepted for each in self._subscribers)
            sent = sum(each.sent for each in self._subscribers)
            return FanoutCounts(
                published=self._published,
                unheard=self._unheard,
                accepted=self._accepted_by_gone + accepted,
                dropped=self._dropped,
                sent=self._sent_by_gone + sent,
                waiting=accepted - sent,
                discarded=self._accepted_by_gone - self._sent_by_gone,
            )
