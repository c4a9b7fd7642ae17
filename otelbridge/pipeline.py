"""The one thread between the buffer and the queue: decodes, filters, redacts and maps events, and puts them away.

It takes all that waits in the buffer: under light load every event is on disk within milliseconds, under heavy load
batches grow by themselves. What the readers had to drop is counted here, and gaps are encoded here, so that the
ledger has one author. Nothing of a turn counts before the queue has it: a turn that fails is repeated whole. Nothing
that an event holds may end the thread: everything that reads one stands inside `EventEncoder.encode`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from otelbridge import clamp
from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, Gap, GapCause, RawEvent, Stream, kind_of
from otelbridge.feed.buffer import BUFFER_FULL, OVERSIZED, Buffer, DroppedEvents
from otelbridge.gate.flood import NOTE, Floods, Staged, pack_originals
from otelbridge.gate.rules import Gate
from otelbridge.mapping.decode import Decoded, decode
from otelbridge.mapping.fastpath_cache import sift
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.parts import UID_BYTES
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.mapping.synthetic import MAX_RAW_BYTES, sample_of
from otelbridge.pb.kubearmor_pb2 import Alert, Log
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Batch, Retained
from otelbridge.queue.packing import packed, plain_copy
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import EventDamaged, EventsEncoded, EventsOverflowed, FloodSummarised, GapEnded, Tell
from otelbridge.telemetry.supervisor import SupervisedThread

if TYPE_CHECKING:
    from otelbridge.feed.roads import Roads


none_yet: Callable[[], defaultdict[Any, int]] = partial(defaultdict, int)
"""Counts, from 0. A Counter costs more to make than the few counts of a turn of one event."""


@dataclass(slots=True)
class Findings:
    """What was found in the events of one turn, beside their records."""

    filtered: defaultdict[tuple[Stream, str], int] = field(default_factory=none_yet)
    """Events that a rule dropped, by stream and rule."""
    doubled: defaultdict[Stream, int] = field(default_factory=none_yet)
    """Copies of events that another road has brought."""
    dropped: defaultdict[Stream, int] = field(default_factory=none_yet)
    """Events that faults of ours left no record of."""
    damaged: dict[tuple[Stream, str, str], tuple[str, int]] = field(default_factory=dict)
    """Stream, upstream and how the events travelled on, to why the first did and their number."""
    throttled: list[Gap] = field(default_factory=list)
    redacted: int = 0
    """Events in which a secret was blacked out."""

    def note_damage(self, stream: Stream, upstream: str, how: str, why: str, events: int = 1) -> None:
        """Counts events that did not parse as they should."""
        first, before = self.damaged.get((stream, upstream, how), (why, 0))
        self.damaged[stream, upstream, how] = (first, before + events)

    def drop(self, stream: Stream, upstream: str, fault: BaseException) -> None:
        """Counts an event, or a gap, of which no record can be made."""
        self.dropped[stream] += 1
        self.note_damage(stream, upstream, "dropped", f"a fault of the bridge: {fault!r}")


# Bound once: to look a method up on a message's class costs as much as the parse.
_parse_alert, _parse_log = Alert.FromString, Log.FromString


class EventEncoder:
    """Belongs to the encoder's thread, which replaces `findings` at each turn."""

    def __init__(
        self,
        gate: Gate,
        mapper: Mapper,
        latest: RecentEvents | None = None,
        floods: Floods | None = None,
        roads: Roads | None = None,
    ) -> None:
        self._gate = gate
        self._mapper = mapper
        self._roads = roads
        self._latest = latest
        self._floods = floods or Floods(gate.flood)
        # A rule asks for little, and its answers are kept with the parts; redaction has to read every text.
        self._compiled = {} if gate.redacts else mapper.compiled(gate.screens)
        self._fastpath = {stream: compiled.map for stream, compiled in self._compiled.items()}
        self._processes = mapper.processes
        self._is_plain = not self._floods.on and self._processes is None and latest is None and roads is None
        self.rests = self._processes is None and roads is None
        """Whether, beside the windows of floods, only events make work: no spans and no roads become due by time."""
        self.sifts = self._floods.on and bool(self._compiled) and roads is None
        """Whether events are sifted before they are mapped; roads tell copies by their ids, so after it."""
        self._open: RawEvent | None = None
        """The event that `sift` leaves to others to judge."""
        self.findings = Findings()

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return bool(self._fastpath)

    def sift(self, events: list[RawEvent], *, mapped: bool = False) -> Iterator[list[RawEvent]]:
        """Counts usual events of floods, and leaves the others.

        In pieces: a piece is to be encoded before the next one is asked for.
        """
        for compiled in self._compiled.values():
            compiled.attend(self._floods)
        at = 0
        while at < len(events):
            left, is_open, at = sift(self._compiled, events, at, mapped=mapped)
            self._open = left[-1] if is_open else None
            yield left

    def encode(self, event: RawEvent) -> Record | None:
        """The event's record; None where a rule drops it, it is counted instead, or no record can be made.

        Never raises.
        """
        stream, body, received_unix_nano, _ = event
        if not 0 <= received_unix_nano <= clamp.MAX_UNIX_NANO:
            received_unix_nano = clamp.unix_nano(received_unix_nano)
        try:
            if stream in self._fastpath:
                mapped = self._fastpath[stream](body, received_unix_nano)
                if isinstance(mapped, str):
                    self.findings.filtered[stream, mapped] += 1
                    return None
                if mapped is not None:
                    return mapped if self._is_plain else self._looked_at(event, mapped, received_unix_nano)
            return self._by_reference(event, received_unix_nano)
        except BaseException as fault:  # noqa: BLE001 - a fault of ours in one event must not end the road for all others
            raw = Decoded(Alert(), "raw", f"a fault of the bridge: {fault!r}", body=body)
            try:
                return self._as_bytes(event, received_unix_nano, raw)
            except BaseException as another:  # noqa: BLE001 - nothing is left to be tried
                self.findings.drop(stream, event.upstream, another)
                return None

    def _looked_at(self, event: RawEvent, record: Record, received_unix_nano: int) -> Record | None:
        """Applies roads, floods, recent events and process traces to a record of the fast path."""
        stream, body, _, _ = event
        if self._roads is not None:
            if self._is_double(event, record.encoded[-UID_BYTES:]):
                return None
            if self._floods.on and not any(self.sift([event], mapped=True)):
                return None
        if event is self._open:
            parse = _parse_alert if stream is Stream.ALERTS else _parse_log
            if self._is_flooded(event, parse(body), record, received_unix_nano):
                return None
        self._note(event, received_unix_nano, body, record)
        if self._processes is None:
            return record
        return self._processes.with_ids(self._processes.told, record, self._floods.now)

    def _by_reference(self, event: RawEvent, received_unix_nano: int) -> Record | None:
        stream, body, _, upstream = event
        decoded = decode(stream, body)
        if decoded.how == "raw":
            return self._as_bytes(event, received_unix_nano, decoded)
        message: Any = decoded.message
        event_uid = b""
        if not self._gate.open:
            verdict = self._gate.decide(stream, message)
            if not verdict.keep:
                self.findings.filtered[stream, verdict.rule] += 1
                return None
            secrets = self._gate.secrets(stream, message)
            if secrets is not None:
                event_uid = self._mapper.uid(stream, decoded)  # of the event as it was received
                secrets.apply(message)
        record = self._mapper.map(stream, decoded, received_unix_nano, event_uid)
        if decoded.how != "strict":
            self.findings.note_damage(stream, upstream, decoded.how, decoded.why)
        if self._roads is not None:
            uid = record.encoded[-UID_BYTES:] if stream is not Stream.MESSAGES else self._mapper.uid(stream, decoded)
            if self._is_double(event, uid):
                return None
        self.findings.redacted += bool(event_uid)
        if stream is Stream.ALERTS and message.Operation == THROTTLING_OPERATION:
            self._note_throttling(message, event)
        return record if self._is_plain else self._with_options(event, message, record, received_unix_nano, event_uid)

    def _with_options(
        self, event: RawEvent, message: Any, record: Record, received_unix_nano: int, event_uid: bytes
    ) -> Record | None:
        """Applies floods, recent events and process traces to a record of the reference encoder."""
        stream, body, _, _ = event
        is_message = stream is Stream.MESSAGES
        judged = is_message or not self._floods.on or (self.sifts and event is not self._open)
        if not judged and self._is_flooded(event, message, record, received_unix_nano, event_uid):
            return None
        self._note(event, received_unix_nano, message.SerializeToString() if event_uid else body, record)
        if self._processes is None or is_message:
            return record
        return self._processes.with_ids(self._processes.read(stream, message), record, self._floods.now)

    def _note(self, event: RawEvent, received_unix_nano: int, passed: bytes, record: Record) -> None:
        """Keeps the event for the status page and `tail`, where that is asked for."""
        if self._latest is not None:
            self._latest.note(event.stream, received_unix_nano, passed, record.encoded)

    def _is_double(self, event: RawEvent, uid: bytes, *, raw: bool = False) -> bool:
        """Whether another road has brought the event that was just mapped; then it is counted as such."""
        stream, _, _, upstream = event
        tally = self._mapper.tally
        if self._roads is None or self._roads.is_new(upstream, stream, "" if raw else tally.last[0], uid):
            return False
        self.findings.doubled[stream] += 1
        if stream is Stream.ALERTS and not raw:
            tally.uncount_alert()
        return True

    def _is_flooded(
        self, event: RawEvent, message: Any, record: Record, received_unix_nano: int, event_uid: bytes = b""
    ) -> bool:
        """Whether an event is beyond the rate of its kind.

        Then it is counted and put aside as it was received, or redacted, and is on no span.
        """
        stream, body, _, upstream = event
        flow = self._floods.flow(kind_of(stream, message))
        if self._floods.passes(flow):
            return False
        happened = record.time_unix_nano or received_unix_nano
        if not flow.number:
            self._floods.open(flow, sample_of(message), happened)
        kept = RawEvent(stream, message.SerializeToString() if event_uid else body, received_unix_nano, upstream)
        process, resource = message.ProcessName, message.Resource
        self._floods.count(flow, kept, happened, process=process, resource=resource, uid=event_uid)
        return True

    def _as_bytes(self, event: RawEvent, received_unix_nano: int, raw: Decoded) -> Record | None:
        """A record of the bytes of an event that could not be decoded; no rule can look into it."""
        stream, _, _, upstream = event
        event_uid = self._mapper.uid(stream, raw)
        try:
            shown = raw._replace(body=self._gate.without_secrets(raw.body[:SEARCHED_RAW_BYTES]))
        except BaseException as fault:  # noqa: BLE001 - bytes that nobody has read may hold what must not be shown
            shown = raw._replace(why=f"a fault of the bridge: {fault!r}", body=b"")
        record = self._mapper.map(stream, shown, received_unix_nano, event_uid)
        self.findings.note_damage(stream, upstream, "raw", raw.why)
        if self._roads is not None and self._is_double(event, event_uid, raw=True):
            return None
        if self._latest is not None:
            self._latest.note(stream, received_unix_nano, shown.body, record.encoded)
        return record

    def _note_throttling(self, alert: Any, event: RawEvent) -> None:
        """KubeArmor says that it will report nothing of a container for a while: a gap whose extent is known."""
        started = self._mapper.event_unix_nano(alert) or event.received_unix_nano
        limit = f"Its limit is {alert.MaxAlertsPerSec} alerts a second." if alert.MaxAlertsPerSec else ""
        self.findings.throttled.append(
            Gap(
                stream=event.stream,
                upstream=event.upstream,
                cause=GapCause.THROTTLED,
                started_unix_nano=started,
                ended_unix_nano=clamp.unix_nano(started + alert.DroppingAlertsInterval * 1_000_000_000),
                node=alert.HostName,
                namespace=alert.NamespaceName,
                pod=alert.PodName,
                container=alert.ContainerName,
                detail=limit,
            )
        )


_STREAM, _UPSTREAM = itemgetter(0), itemgetter(3)
TAKE_EVENTS = 2048
"""Most events of one turn: large enough that a commit is cheap per event, small enough that the readers, who need the
interpreter lock too, are not kept from it for longer than some milliseconds."""
YIELD_EVENTS = 256
"""Readers are let in after so many events of a turn: 2 ms of work, or 8 where no event takes the fast path."""
BATCH_TARGET_BYTES = 768 * 1024
"""A batch is closed when its records have grown to this; with their resources they fill the default request."""
LAG_SAMPLES = 16
"""So many events of a batch are measured."""
IDLE_SECONDS = 1.0
"""Longest wait while events come; what was dropped is on record by then."""
REST_SECONDS = 5.0
"""Longest wait once no events come, unless spans or the windows of floods become due by time."""
DRAIN_JOIN_SECONDS = 30.0
"""A full buffer (100,000 events) is encoded in a third of this on a slow core."""

SEARCHED_RAW_BYTES = MAX_RAW_BYTES + (64 << 10)
"""Of an event that travels as bytes: no more of it is searched for secrets, and no secret at the cut is half there."""

FAULT_REASON = "bridge_fault"
"""Not even the event's bytes could be made into a record."""
COUNTED_SECONDS = 0.1
"""Events that were only counted wait for their transaction this long: it costs as much as hundreds of them."""
COUNTED_EVENTS = 1024
"""So many may wait, each of 8 KiB at most."""
MOST_PASSED = 0.1
"""In a flood of which no larger share passes, readers pause even at rates at which they would otherwise read on."""
SPANS_EVERY_SECONDS = 1.0
"""Spans are made this often, not at each turn: a batch costs as much as some hundred spans."""
MAX_HEARD = 10_000
"""Turns whose nodes are remembered until somebody asks; one is asked every second."""


@dataclass(slots=True)
class OpenBatch:
    """Records of one stream that will become one batch."""

    stream: Stream
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    oldest_received_unix_nano: int = 0
    latest_received_unix_nano: int = 0

    def add(self, record: Record, received_unix_nano: int) -> None:
        """Adds one record; the first one gives the batch its age."""
        if not self.records:
            self.oldest_received_unix_nano = received_unix_nano
        self.latest_received_unix_nano = received_unix_nano
        self.records.append(record)
        self.bytes += len(record.encoded)

    def lags(self) -> tuple[tuple[float, int], ...]:
        """Seconds from some events' own time stamps to the batch's receipt, and how many events each stands for."""
        step = -(-len(self.records) // LAG_SAMPLES)
        sampled = [record.time_unix_nano for record in self.records[::step]]
        received = self.latest_received_unix_nano
        return tuple((max(0.0, (received - happened) / NANOSECONDS), step) for happened in sampled if happened)


class GapSink:
    """Takes the gaps that components find, tells them at once, and wakes the pipeline, which makes records of them."""

    def __init__(self, tell: Tell, wake: Callable[[], None]) -> None:
        self._tell, self._wake = tell, wake
        self._waiting: deque[Gap] = deque()

    def record(self, gap: Gap) -> None:
        """Takes a gap. Any thread; never raises, never blocks."""
        self._waiting.append(gap)
        self._tell(GapEnded(gap=gap))
        self._wake()

    def waiting(self) -> list[Gap]:
        """Those that are in no queue yet, oldest first."""
        return list(self._waiting)

    def done(self, number: int) -> None:
        """The oldest ones are in the queue. Called by the pipeline only."""
        for _ in range(number):
            self._waiting.popleft()


@dataclass(slots=True)
class Turn:
    """What one turn makes, until the queue has it."""

    findings: Findings
    batches: list[Batch] = field(default_factory=list)
    postings: defaultdict[tuple[Stream, Account, str], int] = field(default_factory=none_yet)
    gaps: list[Gap] = field(default_factory=list)
    """What the turn itself has found: an overflow, a container that KubeArmor throttles."""
    left_gaps: int = 0
    """Gaps of others that it has encoded."""
    key: object = field(default_factory=object)
    """Tells it from other turns."""
    encoded: list[EventsEncoded] = field(default_factory=list)
    aside: list[Retained] = field(default_factory=list)
    """The events of floods: for the flight recorder, not for the endpoint."""
    staged: Staged | None = None
    """The windows of floods, as they will stand; None where there is no flood."""


class Pipeline:
    """Owns the thread `encoder`. It closes nothing of what it is given."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        gate: Gate,
        mapper: Mapper,
        queue: DurableQueue,
        gaps: GapSink,
        tell: Tell,
        latest: RecentEvents | None = None,
        roads: Roads | None = None,
    ) -> None:
        self._buffer = buffer
        self._roads = roads
        self.floods = Floods(gate.flood, queue.notes(NOTE), now=time.monotonic())
        """Changed by its thread only."""
        self._encoder = EventEncoder(gate, mapper, latest, self.floods, roads)
        self._mapper = mapper
        self._queue = queue
        self._tell = tell
        self._events: list[RawEvent] = []
        self._overflows: list[DroppedEvents] = []
        self._counted = 0
        """So many of them are of floods, and counted."""
        self._empty_turns = 0
        """So many turns in a row found no event."""
        self._spans_at = 0.0
        self._spans: list[Record] = []
        """All of this is taken, and not yet in the queue."""
        self._made: Turn | None = None
        """Encoded, and perhaps not yet in the queue: where the queue raises, it is told of the same turn again."""
        self._gaps = gaps
        self._heard: deque[tuple[str, dict[str, int]]] = deque(maxlen=MAX_HEARD)
        self._latest = latest
        self._replacement: tuple[Gate, Mapper] | None = None
        self._draining = threading.Event()
        self.redacted = 0
        """Events in which a secret was blacked out."""
        self._thread = SupervisedThread("encoder", self._turn, tell=tell)
        self.pulse = self._thread.pulse

    @property
    def has_fastpath(self) -> bool:
        """Whether usual events take it."""
        return self._encoder.has_fastpath

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def replace(self, gate: Gate, mapper: Mapper) -> None:
        """Judges and maps by these from the next turn on; what was taken before it goes by the old ones."""
        self._replacement = (gate, mapper)
        self._buffer.wake()

    def take_heard(self) -> Iterator[tuple[str, dict[str, int]]]:
        """The upstreams heard since the last call, oldest first, with each node's last receipt in Unix nanoseconds."""
        while self._heard:
            yield self._heard.popleft()

    def drain(self, timeout_seconds: float = DRAIN_JOIN_SECONDS) -> bool:
        """Encodes all that waits, then ends the thread. True when it did so in time."""
        self._draining.set()
        self._buffer.wake()
        return self._thread.join(timeout_seconds)

    def _turn(self) -> bool:
        draining = self._draining.is_set()  # read before the take: what came before it is then surely taken
        if self._replacement is not None:
            (gate, mapper), self._replacement = self._replacement, None
            if self._mapper.processes is not None and mapper.processes is None:
                self._spans += self._mapper.processes.due(0, all_of_them=True)
            self._mapper = mapper
            self.floods.change(gate.flood)
            self._encoder = EventEncoder(gate, self._mapper, self._latest, self.floods, self._roads)
        turn = self._made or self._make(draining=draining)
        if turn is None:
            return True
        if turn.batches or turn.postings:
            postings = [Posting(*key, records) for key, records in turn.postings.items()]
            notes = turn.staged.notes if turn.staged is not None else {}
            self._queue.put(turn.batches, postings, aside=turn.aside, notes=notes, turn=turn.key)
        done = draining and not self._events and not turn.left_gaps
        self._made = None
        self._finish(turn)
        return not done

    def _make(self, *, draining: bool) -> Turn | None:
        """Takes what waits, and encodes it; None where it was counted only, and the next turn writes that down too."""
        counted, self._counted = self._counted, 0
        if len(self._events) == counted:
            rests = self._empty_turns > 1 and self._encoder.rests and not self.floods.windows
            idle = COUNTED_SECONDS if counted else REST_SECONDS if rests else IDLE_SECONDS
            self.pulse.beat(idle)
            self._events += self._buffer.take(TAKE_EVENTS, 0.0 if draining else idle)
            self._empty_turns = 0 if self._events else self._empty_turns + 1
        self._overflows += self._buffer.take_overflow(at_once=draining)
        left_gaps = self._gaps.waiting()
        turn = Turn(Findings(), left_gaps=len(left_gaps))
        if not counted:
            self.floods.begin(time.monotonic())
        if self._roads is not None:
            received = self._events[0].received_unix_nano if self._events else time.time_ns()
            self._roads.begin(self.floods.now - max(0, time.time_ns() - received) / NANOSECONDS)
        self._encode_events(self._events[counted:], turn)
        passed = sum([batch.records for batch in turn.batches])
        self._buffer.flooded = bool(self.floods.touched) and passed <= MOST_PASSED * (len(self._events) - counted)
        if not (draining or left_gaps or self._overflows or turn.batches or self._roads) and self._may_wait(turn):
            self._counted = len(self._events)
            return None
        self._count_events(turn)
        self._count_overflows(turn)
        if self._roads is not None:
            self._roads.note([*left_gaps, *turn.gaps], time.time_ns())
        self._summarise_floods(turn, close_all=draining)
        self._encode_own([*left_gaps, *turn.gaps], turn)
        self._encode_spans(turn, all_of_them=draining and not self._events)
        for stream, count in turn.findings.dropped.items():
            turn.postings[stream, Account.DROPPED, FAULT_REASON] += count
        self._made = turn
        return turn

    def _may_wait(self, turn: Turn) -> bool:
        """Whether there is nothing new but events of floods, and not for long."""
        return (
            bool(self.floods.touched)
            and turn.findings == Findings()
            and len(self._events) < COUNTED_EVENTS
            and time.monotonic() - self.floods.now < COUNTED_SECONDS
        )

    def _finish(self, turn: Turn) -> None:
        """The queue has everything: lets go of what was taken, and tells what was found."""
        overflows, self._overflows, self._events, self._spans = self._overflows, [], [], []
        self._gaps.done(turn.left_gaps)
        if self._roads is not None:
            self._roads.commit()
        if turn.staged is not None:
            for flow in turn.staged.closed:
                self._tell(FloodSummarised(kind=str(flow.kind), events=flow.total + flow.events))
            self.floods.commit(turn.staged)
        self.redacted += turn.findings.redacted
        for encoded in turn.encoded:
            self._tell(encoded)
        # Once per turn and kind: a flood of damaged events must not become a flood of what is told.
        for (stream, upstream, how), (why, events) in turn.findings.damaged.items():
            self._tell(EventDamaged(stream=stream, upstream=upstream, how=how, why=why, events=events))
        for overflow in overflows:
            if overflow.reason == BUFFER_FULL:
                self._tell(EventsOverflowed(stream=overflow.stream, events=overflow.events))
        for gap in turn.gaps:
            self._tell(GapEnded(gap=gap))

    # --- events ---

    def _encode_events(self, events: Sequence[RawEvent], turn: Turn) -> None:
        self._encoder.findings = turn.findings
        open_batches: dict[Stream, OpenBatch] = {}
        encode = self._encoder.encode
        for event in chain.from_iterable(self._runs(events)):
            stream, _, received_unix_nano, _ = event
            record = encode(event)
            if record is None:
                continue
            batch = open_batches.get(stream)
            if batch is None:
                batch = open_batches[stream] = OpenBatch(stream)
            batch.add(record, received_unix_nano)
            if batch.bytes >= BATCH_TARGET_BYTES:
                self._close(open_batches.pop(stream), turn)
        for batch in open_batches.values():
            self._close(batch, turn)

    def _count_events(self, turn: Turn) -> None:
        for stream, count in Counter(map(_STREAM, self._events)).items():
            turn.postings[stream, Account.RECEIVED, ""] += count
        for (stream, rule), count in turn.findings.filtered.items():
            turn.postings[stream, Account.FILTERED, rule] += count
        for stream, count in turn.findings.doubled.items():
            turn.postings[stream, Account.DOUBLED, ""] += count
        turn.gaps += turn.findings.throttled

    def _runs(self, events: Sequence[RawEvent]) -> Iterator[Iterable[RawEvent]]:
        """The events in pieces of one upstream each, without the usual events of floods, which are counted here.

        After YIELD_EVENTS there is a moment in which readers can read.
        """
        for start in range(0, len(events), YIELD_EVENTS):
            if start:
                self._buffer.let_readers_in()
            for upstream, run in groupby(events[start : start + YIELD_EVENTS], _UPSTREAM):
                if self._encoder.sifts:
                    yield from self._encoder.sift(list(run))
                else:
                    yield run
                if nodes := self._mapper.tally.take_nodes():
                    self._heard.append((upstream, nodes))

    def _close(self, batch: OpenBatch, turn: Turn) -> None:
        """Encodes and packs a batch; where that fails, each record by itself, so that one of them harms no other."""
        if batch.stream in UPSTREAM_STREAMS:
            turn.encoded.append(EventsEncoded(stream=batch.stream, lags=batch.lags()))
        oldest = batch.oldest_received_unix_nano
        try:
            turn.batches.append(self._packed(batch.stream, batch.records, oldest))
        except BaseException as fault:  # noqa: BLE001 - as for a single event
            if len(batch.records) == 1:
                turn.findings.drop(batch.stream, "", fault)
                return
            for record in batch.records:
                alone = OpenBatch(batch.stream)
                alone.add(record, oldest)
                self._close(alone, turn)

    def _packed(self, stream: Stream, records: list[Record], oldest_received_unix_nano: int) -> Batch:
        oldest, request = oldest_received_unix_nano, self._mapper.assemble(records)
        held = packed(request, least_bytes=self._queue.least_packed_bytes)
        return Batch(
            stream=stream,
            request=held,
            plain=plain_copy(request, held),
            records=len(records),
            oldest_received_unix_nano=oldest if 0 <= oldest <= clamp.MAX_UNIX_NANO else clamp.unix_nano(oldest),
        )

    # --- gaps ---

    def _count_overflows(self, turn: Turn) -> None:
        for overflow in self._overflows:
            turn.postings[overflow.stream, Account.RECEIVED, ""] += overflow.events
            turn.postings[overflow.stream, Account.DROPPED, overflow.reason] += overflow.events
            if overflow.reason == OVERSIZED:
                continue  # the feed puts it on record, with the time for which the stream was away
            turn.gaps.append(
                Gap(
                    stream=overflow.stream,
                    upstream=overflow.upstream,
                    cause=GapCause.OVERFLOW,
                    started_unix_nano=overflow.first_unix_nano,
                    ended_unix_nano=overflow.last_unix_nano,
                    lost_records=overflow.events,
                    detail="Events arrived faster than they could be encoded and written to disk.",
                )
            )

    def _summarise_floods(self, turn: Turn, *, close_all: bool) -> None:
        """Puts the events of floods aside, and stages the windows that count them."""
        floods = self.floods
        if not floods.touched and not floods.windows:
            return
        for flow in floods.touched:
            turn.postings[flow.kind.stream, Account.SUMMARISED, ""] += flow.events
        for stream, events, uids in floods.originals():
            try:
                block = packed(pack_originals(events, uids))
            except BaseException as fault:  # noqa: BLE001 - the record of the flood counts them all the same
                turn.findings.note_damage(stream, "", "not kept", f"a fault of the bridge: {fault!r}", len(events))
                continue
            oldest = clamp.unix_nano(self._events[0].received_unix_nano)
            turn.aside.append(
                Retained(
                    stream=stream,
                    request=block,
                    records=len(events),
                    oldest_received_unix_nano=oldest,
                    delivered_unix_nano=0,
                )
            )
        turn.staged = floods.stage(close_all=close_all)

    def _encode_own(self, gaps: Sequence[Gap], turn: Turn) -> None:
        """Makes the bridge's own records, of gaps and of floods."""
        floods = turn.staged.closed if turn.staged is not None else []
        if not gaps and not floods:
            return
        batch = OpenBatch(Stream.GAPS)
        for flow in floods:
            now = time.time_ns()
            try:
                batch.add(self._mapper.flood(flow.flood(), observed_unix_nano=now), now)
            except BaseException as fault:  # noqa: BLE001 - as for a single event
                turn.findings.drop(Stream.GAPS, "", fault)
        for gap in gaps:
            now = time.time_ns()  # a throttled container's gap ends in the future: it is observed now all the same
            try:
                batch.add(self._record_of_gap(gap, now), now)
            except BaseException as fault:  # noqa: BLE001 - as for a single event
                turn.findings.drop(Stream.GAPS, gap.upstream, fault)
        turn.postings[Stream.GAPS, Account.RECEIVED, ""] += len(gaps) + len(floods)
        if batch.records:
            self._close(batch, turn)

    def _record_of_gap(self, gap: Gap, now: int) -> Record:
        """Without its details where there is a fault with them, or was one by chance: a loss must not go unsaid."""
        try:
            return self._mapper.gap(gap, observed_unix_nano=now)
        except BaseException as fault:  # noqa: BLE001 - as for a single event
            why = f"A fault of the bridge: {fault!r}"
            plain = replace(gap, node="", namespace="", pod="", container="", detail=why)
            return self._mapper.gap(plain, observed_unix_nano=now)

    # --- spans ---

    def _encode_spans(self, turn: Turn, *, all_of_them: bool) -> None:
        """The processes that are complete become spans, or all of them: the bridge stops."""
        processes, now = self._mapper.processes, self.floods.now
        if processes is not None and (
            all_of_them or now - self._spans_at >= SPANS_EVERY_SECONDS or processes.tree.crowded()
        ):
            self._spans += processes.due(now, all_of_them=all_of_them)
            self._spans_at = now
        if not self._spans:
            return
        made_unix_nano = time.time_ns()
        batch = OpenBatch(Stream.SPANS)
        for span in self._spans:
            batch.add(span, made_unix_nano)
            if batch.bytes >= BATCH_TARGET_BYTES:
                self._close(batch, turn)
                batch = OpenBatch(Stream.SPANS)
        if batch.records:
            self._close(batch, turn)
        turn.postings[Stream.SPANS, Account.RECEIVED, ""] += len(self._spans)
