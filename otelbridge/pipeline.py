"""The one thread between the readers and the disk: raw events come in, batches of encoded records go into the queue.

It takes all that waits in the hand-off: under light load every event is on disk within milliseconds, under heavy load
batches grow by themselves. What the readers had to drop, and every gap, is posted and recorded here too, so the ledger
has one author.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from otelbridge.event import Gap, GapCause, RawEvent, Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.gate.rules import Gate
from otelbridge.latest import RecentEvents
from otelbridge.mapping.decode import Decoded, decode
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.pb.kubearmor_pb2 import Alert
from otelbridge.queue.model import Batch
from otelbridge.queue.packing import packed
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import EventDamaged, EventsOverflowed, GapEnded, Tell
from otelbridge.telemetry.ledger import Account, Posting
from otelbridge.telemetry.pulse import Pulse

TAKE_EVENTS = 2048
"""Most events of one turn: large enough that a commit is cheap per event, small enough that the readers, who need the
interpreter lock too, are not kept from it for longer than some milliseconds."""
BREATH_EVENTS = 256
"""Readers are let in after so many events of a turn: 2 ms of work, or 8 where all go to the ordinary lane."""
BATCH_TARGET_BYTES = 768 * 1024
"""A batch is closed when its records have grown to this; with their resources they fill the default request."""
IDLE_SECONDS = 1.0
"""Longest wait for an event, so that the thread's pulse beats and gaps go out on a quiet night."""
DRAIN_JOIN_SECONDS = 30.0
"""A full hand-off (100,000 events) is encoded in a third of this on a slow core."""

OVERFLOW_REASON = "handoff_full"


class Pipeline:
    """Owns the thread `encoder`. Everything it is given is another room's; it closes none of it."""

    def __init__(
        self,
        *,
        handoff: Buffer,
        gate: Gate,
        mapper: Mapper,
        queue: DurableQueue,
        tell: Tell,
        latest: RecentEvents | None = None,
    ) -> None:
        self._handoff = handoff
        self._gate = gate
        self._mapper = mapper
        self._queue = queue
        self._tell = tell
        self._map = mapper.map if latest is None else latest.noting(mapper.map)
        # A rule, or a look at the latest events, needs the event decoded.
        self._express = mapper.fastpath if gate.open and latest is None else {}
        self._gaps: deque[Gap] = deque()
        self._draining = threading.Event()
        self._in_hand: Counter[Stream] = Counter()
        self._damaged: dict[tuple[Stream, str, str], tuple[str, int]] = {}
        self.redacted = 0
        """Events in which a secret was blacked out."""
        self.lag_nanos: dict[Stream, int] = {}
        """Receipt of a stream's latest event minus its own time stamp; negative when the clocks differ."""
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self.pulse = Pulse("encoder")

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return bool(self._express)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def record_gap(self, gap: Gap) -> None:
        """Puts a gap on the road to the endpoint. May be called from any thread."""
        self._gaps.append(gap)
        self._handoff.wake()

    def drain(self, timeout_seconds: float = DRAIN_JOIN_SECONDS) -> bool:
        """Encodes all that waits, then ends the thread. True when it did so in time."""
        self._draining.set()
        self._handoff.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self.pulse.beat()
            last_turn = self._draining.is_set()  # read before the take: what came before it is then surely taken
            events = self._handoff.take(TAKE_EVENTS, 0.0 if last_turn else IDLE_SECONDS)
            self._turn(events, last=last_turn)
            if last_turn and not events and not self._gaps:
                return

    def _turn(self, events: Sequence[RawEvent], *, last: bool) -> None:
        self._in_hand.update(event.stream for event in events)
        postings = Counter[tuple[Stream, Account, str]]()
        batches = list(self._batches(events, postings))
        self._tell_damage()
        for overflow in self._handoff.take_overflow(at_once=last):
            postings[overflow.stream, Account.RECEIVED, ""] += overflow.events
            postings[overflow.stream, Account.DROPPED, OVERFLOW_REASON] += overflow.events
            self._tell(EventsOverflowed(stream=overflow.stream, events=overflow.events))
            self._tell(
                GapEnded(
                    gap=Gap(
                        stream=overflow.stream,
                        upstream=overflow.upstream,
                        cause=GapCause.OVERFLOW,
                        started_unix_nano=overflow.first_unix_nano,
                        ended_unix_nano=overflow.last_unix_nano,
                        lost_records=overflow.events,
                        detail="Events arrived faster than they could be encoded and written to disk.",
                    )
                )
            )
        batches.extend(self._gap_batches(postings))
        if batches or postings:
            self._queue.put(batches, [Posting(*key, records) for key, records in postings.items()])
        self._in_hand.clear()

    def _batches(self, events: Sequence[RawEvent], postings: Counter[tuple[Stream, Account, str]]) -> Iterable[Batch]:
        open_batches: dict[Stream, OpenBatch] = {}
        fastpath = self._express
        for event in chain.from_iterable(self._in_breaths(events)):
            stream, body, received_unix_nano, _, _ = event
            record = None
            if stream in fastpath:
                try:
                    record = fastpath[stream](body, received_unix_nano)
                except Exception as error:  # noqa: BLE001 - see _map_decoded
                    record = self._as_bytes(event, decode(stream, body), error)
            if record is None:
                record = self._map_decoded(event, postings)
                if record is None:
                    continue
            batch = open_batches.get(stream)
            if batch is None:
                batch = open_batches[stream] = OpenBatch(stream)
            batch.add(record, received_unix_nano)
            if batch.bytes >= BATCH_TARGET_BYTES:
                yield self._close(open_batches.pop(stream))
        for batch in open_batches.values():
            yield self._close(batch)
        for stream, count in self._in_hand.items():
            postings[stream, Account.RECEIVED, ""] += count

    def _in_breaths(self, events: Sequence[RawEvent]) -> Iterator[Sequence[RawEvent]]:
        """The events in pieces, with a moment between two pieces in which readers can read."""
        for start in range(0, len(events), BREATH_EVENTS):
            if start:
                self._handoff.let_readers_in()
            yield events[start : start + BREATH_EVENTS]

    def _map_decoded(self, event: RawEvent, postings: Counter[tuple[Stream, Account, str]]) -> Record | None:
        """The event's record; None where a rule drops it."""
        stream = event.stream
        decoded = decode(stream, event.body)
        if decoded.how != "strict":
            self._note_damage(event, decoded)
        if not self._gate.open and not self._passes(stream, decoded, postings):
            return None
        if stream is Stream.ALERTS:
            self._note_throttling(decoded, event)
        try:
            return self._map(stream, decoded, event.received_unix_nano)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one event must not end the road for all others
            return self._as_bytes(event, decoded, error)

    def _as_bytes(self, event: RawEvent, decoded: Decoded, error: Exception) -> Record:
        """The event as evidence that the mapping could not read."""
        # Not the bytes that came in: the gate may have blacked secrets out of the message since.
        body = decoded.message.SerializeToString() if decoded.how != "raw" else event.body
        raw = decoded._replace(how="raw", why=f"the mapping failed: {error!r}", body=body)
        self._note_damage(event, raw)
        return self._map(event.stream, raw, event.received_unix_nano)

    def _note_damage(self, event: RawEvent, decoded: Decoded) -> None:
        key = (event.stream, event.upstream, decoded.how)
        why, events = self._damaged.get(key, (decoded.why, 0))
        self._damaged[key] = (why, events + 1)

    def _tell_damage(self) -> None:
        """Once per turn and kind: a flood of damaged events must not become a flood of happenings."""
        for (stream, upstream, how), (why, events) in self._damaged.items():
            self._tell(EventDamaged(stream=stream, upstream=upstream, how=how, why=why, events=events))
        self._damaged.clear()

    def _passes(self, stream: Stream, decoded: Decoded, postings: Counter[tuple[Stream, Account, str]]) -> bool:
        if decoded.how == "raw":
            return True  # bytes that no rule can read are evidence all the same
        verdict = self._gate.judge(stream, decoded.message)
        self.redacted += verdict.redactions > 0
        if not verdict.keep:
            postings[stream, Account.FILTERED, verdict.rule] += 1
        return verdict.keep

    def _close(self, batch: OpenBatch) -> Batch:
        lag = batch.latest_lag_nanos()
        if lag is not None:
            self.lag_nanos[batch.stream] = lag
        return batch.close(self._mapper)

    def _note_throttling(self, decoded: Decoded, event: RawEvent) -> None:
        """KubeArmor says that it will report nothing of a container for a while: a gap whose extent is known."""
        alert = decoded.message
        if not isinstance(alert, Alert) or alert.Operation != THROTTLING_OPERATION:
            return
        started = self._mapper.event_unix_nano(alert) or event.received_unix_nano
        limit = f"Its limit is {alert.MaxAlertsPerSec} alerts a second." if alert.MaxAlertsPerSec else ""
        self._tell(
            GapEnded(
                gap=Gap(
                    stream=event.stream,
                    upstream=event.upstream,
                    cause=GapCause.THROTTLED,
                    started_unix_nano=started,
                    ended_unix_nano=started + alert.DroppingAlertsInterval * 1_000_000_000,
                    node=alert.HostName,
                    namespace=alert.NamespaceName,
                    pod=alert.PodName,
                    container=alert.ContainerName,
                    detail=limit,
                )
            )
        )

    def _gap_batches(self, postings: Counter[tuple[Stream, Account, str]]) -> Iterable[Batch]:
        if not self._gaps:
            return
        batch = OpenBatch(Stream.GAPS)
        while self._gaps:
            now = time.time_ns()  # a throttled container's gap ends in the future: it is observed now all the same
            batch.add(self._mapper.gap(self._gaps.popleft(), observed_unix_nano=now), now)
        postings[Stream.GAPS, Account.RECEIVED, ""] += len(batch.records)
        self._in_hand[Stream.GAPS] += len(batch.records)
        yield batch.close(self._mapper)


class OpenBatch:
    """Records of one stream that will become one batch."""

    __slots__ = ("bytes", "latest_received_unix_nano", "oldest_received_unix_nano", "records", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.records: list[Record] = []
        self.bytes = 0
        self.oldest_received_unix_nano = 0
        self.latest_received_unix_nano = 0

    def add(self, record: Record, received_unix_nano: int) -> None:
        """Adds one record; the first one gives the batch its age."""
        if not self.records:
            self.oldest_received_unix_nano = received_unix_nano
        self.latest_received_unix_nano = received_unix_nano
        self.records.append(record)
        self.bytes += len(record.encoded)

    def latest_lag_nanos(self) -> int | None:
        """Receipt of the latest event minus its own time stamp, where it has one."""
        happened = self.records[-1].time_unix_nano
        return self.latest_received_unix_nano - happened if happened else None

    def close(self, mapper: Mapper) -> Batch:
        """The batch, encoded and packed: the readers go on meanwhile."""
        return Batch(
            stream=self.stream,
            request=packed(mapper.assemble(self.records)),
            records=len(self.records),
            oldest_received_unix_nano=self.oldest_received_unix_nano,
        )
