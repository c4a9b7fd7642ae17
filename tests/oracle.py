"""The judge of every fault test: it numbers events, knows which are owed, and looks for them at the endpoint.

An event is *owed* once the bridge has it on disk, or has delivered it: from then on no fault may lose it.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge import __version__
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.queue.checkpoint import Account, read_page
from otelbridge.queue.packing import unpacked
from otelbridge.simulator.endpoint import ReceivedLog, attributes
from otelbridge.simulator.endpoint_answers import OK, Answer, Answers, Ok, Request
from otelbridge.simulator.events import sequences_in, stamp_sequence, stamp_time
from otelbridge.simulator.generator import generate
from otelbridge.simulator.upstream import Relay

TICK_SECONDS = 0.005
GAP_SLACK_NANOS = 1_000_000_000
"""How far a gap record may be off the truth."""


@dataclass(slots=True)
class Publisher:
    """Publishes numbered events of the given streams at a rate, from a thread of its own."""

    relay: Relay
    per_second: float
    streams: tuple[Stream, ...] = (Stream.ALERTS, Stream.LOGS)
    seed: int = 1
    published: list[tuple[int, Stream]] = field(default_factory=list)
    """Number and stream of each event, in order."""
    published_at: list[int] = field(default_factory=list)
    """Unix nanoseconds at which each was published, in order."""
    first: int = 0
    """The first number: publishers that share an endpoint need different ones."""
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
            sequence = self.first + len(self.published)
            stamp_time(message, time.time_ns())
            stamp_sequence(message, sequence)
            self.published.append((sequence, stream))
            self.published_at.append(time.time_ns())
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


class Taken:
    """An endpoint's script that takes everything and remembers only which numbers it took: for long campaigns.

    Args:
        script: asked first; only what it answers with Ok counts.
    """

    def __init__(self, script: Answers = lambda _: OK) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._numbers: set[int] = set()

    def __call__(self, request: Request) -> Answer:
        answer = self._script(request)
        if isinstance(answer, Ok) and request.signal == "logs":
            with self._lock:
                self._numbers.update(sequences_in(request.body))
        return answer

    def numbers(self) -> set[int]:
        """All numbers taken so far."""
        with self._lock:
            return set(self._numbers)


def missing_without_a_gap(
    publisher: Publisher, records: Iterable[ReceivedLog], *, upstreams: Collection[str]
) -> list[str]:
    """The promise "no silent gap": events that did not arrive, and that no gap record of their stream covers.

    Args:
        publisher: of the events.
        records: all that arrived.
        upstreams: the addresses under which the bridge knows the publisher's relay.
    """
    records = list(records)
    arrived = set(numbers_of(records))
    spans: dict[object, list[tuple[int, int]]] = {}
    for gap in gap_records(records):
        if gap["otelbridge.gap.upstream"] not in upstreams:
            continue
        span = unix_nano(gap["otelbridge.gap.start"]), unix_nano(gap["otelbridge.gap.end"])
        spans.setdefault(gap["otelbridge.gap.stream"], []).append(span)
    return [
        f"{stream} {number} of {at}"
        for (number, stream), at in zip(publisher.published, publisher.published_at, strict=True)
        if number not in arrived
        and not any(start - GAP_SLACK_NANOS <= at <= end + GAP_SLACK_NANOS for start, end in spans.get(stream, ()))
    ]


def holes(publisher: Publisher, there: Collection[int]) -> set[int]:
    """Events missing between the first and the last of their stream that are there.

    A stream is ordered, so on a connection that was not lost these had been received. (What comes after the last may
    never have been: one stream's Watch call ends a little before another's.)
    """
    found = set(there)
    missing: set[int] = set()
    for stream in publisher.streams:
        numbers = [number for number, of in publisher.published if of is stream]
        seen = [at for at, number in enumerate(numbers) if number in found]
        if seen:
            missing |= set(numbers[seen[0] : seen[-1] + 1]) - found
    return missing


def held_on_disk(queue_directory: Path) -> set[int]:
    """The numbers in a queue file that nobody has open: what a bridge that was just killed still owes."""
    file = queue_directory / "queue.db"
    if not file.exists():
        return set()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return {
            number
            for (request,) in connection.execute("SELECT request FROM batches")
            for number in sequences_in(unpacked(bytes(request)))
        }


def received_by_the_ledger(queue_directory: Path) -> int:
    """The events that a queue which nobody has open says were received, in all its lives."""
    file = queue_directory / "queue.db"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT page FROM checkpoint").fetchone()
    checkpoint = read_page(row[0]) if row else None
    return sum(checkpoint.ledger.total(stream, Account.RECEIVED) for stream in UPSTREAM_STREAMS) if checkpoint else 0


def changed(publisher: Publisher, records: Iterable[ReceivedLog], *, every: int = 1) -> list[int]:
    """Events whose record is not what the mapping makes of what was published.

    Args:
        publisher: one that remembers.
        records: all that arrived.
        every: one event in so many is looked at.
    """
    bodies = {
        number: (stream, body) for (number, stream), body in zip(publisher.published, publisher.sent, strict=True)
    }
    mapper = Mapper(MappingSettings(), version=__version__)
    wrong = []
    for received in records:
        for number in sequences_in(received.record.SerializeToString())[:1]:
            if number % every:
                continue
            stream, body = bodies[number]
            at = received.record.observed_time_unix_nano
            expected = LogRecord.FromString(mapper.map(stream, decode(stream, body), at).encoded)
            if expected != received.record:
                wrong.append(number)
    return wrong


def out_of_order(requests: Iterable[Request]) -> int:
    """Requests in which the events of one resource are not in the order in which they were published."""
    found = 0
    for request in requests:
        latest: dict[bytes, int] = {}
        ordered = True
        for per_resource in ExportLogsServiceRequest.FromString(request.body).resource_logs:
            resource = per_resource.resource.SerializeToString(deterministic=True)
            for number in sequences_in(per_resource.SerializeToString()):
                ordered = ordered and number > latest.get(resource, -1)
                latest[resource] = number
        found += not ordered
    return found


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


def unix_nano(iso: object) -> int:
    """The moment that a gap record names."""
    return round(datetime.fromisoformat(str(iso)).timestamp() * 1e9)


def gap_records(records: Iterable[ReceivedLog]) -> list[dict[str, object]]:
    """The attributes of every gap record."""
    return [attributes(one.record.attributes) for one in records if one.record.event_name == "otelbridge.gap"]
