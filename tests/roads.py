"""Two relays that publish the same events, each dropping its seeded share, as different as two relays' copies are."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from otelbridge.event import Stream
from otelbridge.pb.kubearmor_pb2 import Message
from otelbridge.simulator.events import KubeArmorMessage, stamp_sequence, stamp_time
from otelbridge.simulator.generator import generate
from otelbridge.simulator.upstream import Relay

TICK_SECONDS = 0.005


def as_relayed(message: KubeArmorMessage, chance: random.Random) -> bytes:
    """The event as one more relay sends it: Go writes maps in random order, and a relay names the peer it knows."""
    if isinstance(message, Message):
        return message.SerializeToString()
    copy = type(message).FromString(message.SerializeToString())
    entries = list(copy.EventData.items())
    copy.ClearField("EventData")
    if "tcp_" in copy.Data:
        copy.Resource += f" remotehost=svc/shop/web-{chance.randrange(9)}"
    chance.shuffle(entries)
    return copy.SerializeToString() + b"".join(
        type(message)(EventData={key: text}).SerializeToString() for key, text in entries
    )


@dataclass(slots=True)
class SameEvents:
    """Publishes numbered events to all relays at a rate.

    Args:
        relays: the roads.
        shares: of each road: what part of the events it drops.
    """

    relays: Sequence[Relay]
    shares: Sequence[float]
    per_second: float = 800
    streams: tuple[Stream, ...] = (Stream.ALERTS, Stream.LOGS)
    seed: int = 1
    published: int = 0
    dropped: list[set[int]] = field(default_factory=list)
    """The numbers that each road has dropped."""

    def publish(self, number: int, *, drop: bool = True, until: threading.Event | None = None) -> None:
        """Publishes so many further events; -1: until told.

        Args:
            number: of events.
            drop: whether the roads drop their shares.
            until: ends it.
        """
        chance = random.Random(self.seed + self.published)
        self.dropped = self.dropped or [set() for _ in self.relays]
        until = until or threading.Event()
        events = generate(self.seed + self.published, streams=self.streams)
        began = time.monotonic()
        for sent in itertools.count():
            if sent == number or until.is_set():
                return
            ahead = sent / self.per_second - (time.monotonic() - began)
            if ahead > TICK_SECONDS:
                until.wait(ahead)
            stream, message = next(events)
            stamp_time(message, time.time_ns())
            stamp_sequence(message, self.published)
            for relay, share, dropped in zip(self.relays, self.shares, self.dropped, strict=True):
                if drop and chance.random() < share:
                    dropped.add(self.published)
                else:
                    relay.publish(stream, as_relayed(message, chance))
            self.published += 1

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Publishes without end while the context lasts."""
        until = threading.Event()
        thread = threading.Thread(target=self.publish, args=(-1,), kwargs={"until": until}, name="publisher")
        thread.start()
        try:
            yield
        finally:
            until.set()
            thread.join()

    def dropped_by_all(self) -> set[int]:
        """The numbers that no road has brought."""
        return set.intersection(*self.dropped)
