"""The judge of every fault test: it numbers events, knows which are owed, and looks for them at the endpoint.

An event is *owed* once the bridge has it on disk, or has delivered it: from then on no fault may lose it.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.simulator.endpoint_inbox import ReceivedLog, attributes
from otelbridge.simulator.event_stamp import sequences_in, stamp_sequence, stamp_time
from otelbridge.simulator.generator import generate
from otelbridge.simulator.relay import Relay

TICK_SECONDS = 0.005


@dataclass(slots=True)
class Publisher:
    """Publishes numbered events of the given streams at a rate, from a thread of its own."""

    relay: Relay
    per_second: float
    streams: tuple[Stream, ...] = (Stream.ALERTS, Stream.LOGS)
    seed: int = 1
    published: list[tuple[int, Stream]] = field(default_factory=list)
    """Number and stream of each event, in order."""
    remember: bool = False
    sent: list[bytes] = field(default_factory=list)
    """The encoded events, in order, where they shall be remembered."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def publish(self, number: int) -> None:
        """Publishes so many further events, at the rate."""
        events = generate(self.seed + len(self.published), streams=self.streams)
        began = time.monotonic()
        for sent in itertools.count():
            if sent == number or self._stop.is_set():
                return
            ahead = sent / self.per_second - (time.monotonic() - began)
            if ahead > TICK_SECONDS:
                self._stop.wait(ahead)
            stream, message = next(events)
            sequence = len(self.published)
            stamp_time(message, time.time_ns())
            stamp_sequence(message, sequence)
            self.published.append((sequence, stream))
            body = message.SerializeToString()
            if self.remember:
                self.sent.append(body)
            self.relay.publish(stream, body)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Publishes without end while the context lasts."""
        thread = threading.Thread(target=self.publish, args=(-1,), name="publisher")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()


def held_on_disk(queue_directory: Path) -> set[int]:
    """The numbers in a queue file that nobody has open: what a bridge that was just killed still owes."""
    file = queue_directory / "queue.db"
    if not file.exists():
        return set()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return {
            number
            for (request,) in connection.execute("SELECT request FROM batches")
            for number in sequences_in(bytes(request))
        }


def numbers_of(records: Iterable[ReceivedLog]) -> Counter[int]:
    """How often each numbered event stands in the records."""
    return Counter(number for record in records for number in sequences_in(record.record.SerializeToString())[:1])


def uid_of(record: ReceivedLog) -> object:
    """`log.record.uid`."""
    return attributes(record.record.attributes)["log.record.uid"]


def duplicates_share_their_uid(records: Iterable[ReceivedLog]) -> bool:
    """Whether all records of one event have one uid, and records of different events have different ones."""
    uids: dict[int, set[object]] = {}
    for record in records:
        for number in sequences_in(record.record.SerializeToString())[:1]:
            uids.setdefault(number, set()).add(uid_of(record))
    return all(len(found) == 1 for found in uids.values()) and len({uid for (uid,) in uids.values()}) == len(uids)


def gap_records(records: Iterable[ReceivedLog]) -> list[dict[str, object]]:
    """The attributes of every gap record."""
    return [attributes(one.record.attributes) for one in records if one.record.event_name == "otelbridge.gap"]
