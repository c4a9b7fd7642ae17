"""Subscribers and their bounded queues, without a socket."""

from __future__ import annotations

import time

from otelbridge.event import Stream
from otelbridge.simulator.upstream import Ending, Fanout, Subscriber


def test_each_subscriber_gets_each_event() -> None:
    fanout, one, two = Fanout(Stream.LOGS, 10), Subscriber(), Subscriber()
    fanout.join(one)
    fanout.join(two)

    fanout.publish(b"x")

    assert (one.queue.get(), two.queue.get()) == (b"x", b"x")


def test_a_full_queue_drops_silently_and_is_counted() -> None:
    fanout, slow = Fanout(Stream.LOGS, 3), Subscriber()
    fanout.join(slow)

    for _ in range(5):
        fanout.publish(b"x")

    counts = fanout.counts()
    assert (counts.published, counts.accepted, counts.dropped, counts.waiting) == (5, 3, 2, 3)
    assert fanout.room() == 0


def test_what_nobody_hears_is_counted() -> None:
    fanout = Fanout(Stream.LOGS, 3)

    fanout.publish(b"x")

    assert fanout.counts().unheard == 1


def test_what_waits_when_a_subscriber_leaves_is_discarded_once() -> None:
    fanout, gone = Fanout(Stream.LOGS, 3), Subscriber()
    fanout.join(gone)
    fanout.publish(b"x")
    fanout.publish(b"x")
    gone.sent += 1

    fanout.leave(gone)
    fanout.leave(gone)

    counts = fanout.counts()
    assert (counts.accepted, counts.sent, counts.discarded, counts.waiting) == (2, 1, 1, 0)


def test_the_end_waits_behind_the_events() -> None:
    fanout, subscriber = Fanout(Stream.LOGS, 3), Subscriber()
    fanout.join(subscriber)
    fanout.publish(b"x")

    assert fanout.end(Ending()) == 1

    assert [subscriber.queue.get(), subscriber.queue.get()] == [b"x", Ending()]


def test_waiting_for_subscribers_has_a_deadline() -> None:
    fanout = Fanout(Stream.LOGS, 3)

    assert fanout.wait_for_subscribers(0, time.monotonic())
    assert not fanout.wait_for_subscribers(1, time.monotonic())
