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

from otelbridge.encode import EventEncoder
from otelbridge.event import Gap, GapCause, RawEvent, Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.gate.rules import Gate
from otelbridge.latest import RecentEvents
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.queue.model import Batch
from otelbridge.queue.packing import packed
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import EventsOverflowed, GapEnded, Tell
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
        self._encoder = EventEncoder(gate, mapper, latest)
        self._mapper = mapper
        self._queue = queue
        self._tell = tell
        self._gaps: deque[Gap] = deque()
        self._draining = threading.Event()
        self._in_hand: Counter[Stream] = Counter()
        self.lag_nanos: dict[Stream, int] = {}
        """Receipt of a stream's latest event minus its own time stamp; negative when the clocks differ."""
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self.pulse = Pulse("encoder")

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return self._encoder.has_fastpath

    @property
    def redacted(self) -> int:
        """Events in which a secret was blacked out."""
        return self._encoder.redacted

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
        for told in self._encoder.take_told():
            self._tell(told)
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
        for event in chain.from_iterable(self._in_breaths(events)):
            record = self._encoder.encode(event)
            if record is None:
                continue
            stream, _, received_unix_nano, _, _ = event
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
        for (stream, rule), count in self._encoder.take_filtered().items():
            postings[stream, Account.FILTERED, rule] += count

    def _in_breaths(self, events: Sequence[RawEvent]) -> Iterator[Sequence[RawEvent]]:
        """The events in pieces, with a moment between two pieces in which readers can read."""
        for start in range(0, len(events), BREATH_EVENTS):
            if start:
                self._handoff.let_readers_in()
            yield events[start : start + BREATH_EVENTS]

    def _close(self, batch: OpenBatch) -> Batch:
        lag = batch.latest_lag_nanos()
        if lag is not None:
            self.lag_nanos[batch.stream] = lag
        return batch.close(self._mapper)

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
