"""The status document, /status: its shape, and how each part of it is made from the components' own state.

Times are Unix seconds as floating-point numbers (JavaScript has no 64-bit integers), ages and delays are seconds,
`null` is "never" or "not known". Every key of the document is optional for a reader: another version has others.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

from otelbridge import __version__
from otelbridge.event import Gap, Stream
from otelbridge.feed.buffer import BUFFER_FULL
from otelbridge.feed.model import SubscriptionStatus
from otelbridge.gate.flood import Floods
from otelbridge.mapping.process_tree import ProcessTree
from otelbridge.mapping.recent_events import Noted
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.send.workers import SendStatus
from otelbridge.status.answers import AnswerDocument, answers
from otelbridge.status.app import Events, Section
from otelbridge.status.components import Components, certificates_in_use
from otelbridge.telemetry.coverage import Report
from otelbridge.telemetry.escape import Json, escape_json
from otelbridge.telemetry.log import Level
from otelbridge.telemetry.telemetry import Entry

if TYPE_CHECKING:
    from otelbridge.feed.roads import Roads

NANOSECONDS = 1_000_000_000
OVERFLOWED = (Account.DROPPED, BUFFER_FULL)


class StreamDocument(TypedDict):
    """One stream of a subscription."""

    state: str
    events: int
    last_event_unix_seconds: float | None
    error: str


class ChangeDocument(TypedDict):
    """A subscription entered a state."""

    unix_seconds: float
    state: str
    why: str


class SubscriptionDocument(TypedDict):
    """One upstream."""

    upstream: str
    state: str
    since_unix_seconds: float
    blind_since_unix_seconds: float | None
    attempts: int
    attempts_in_a_row: int
    next_attempt_in_seconds: float | None
    last_error: str
    error_class: str
    heartbeat: str
    """How the upstream is asked whether it lives."""
    last_heartbeat_unix_seconds: float | None
    nodes_seen: int
    silent_nodes: list[str]
    """Those of them that are silent against their habit."""
    unheard_since_unix_seconds: float | None
    """Since when it is connected without having heard any node."""
    streams: dict[str, StreamDocument]
    timeline: list[ChangeDocument]


class BufferDocument(TypedDict):
    """What waits between the readers and the encoder, and the account of all bytes under way."""

    events: int
    max_events: int
    under_way_bytes: int
    under_way_max_bytes: int
    dropped: int


class QueueDocument(TypedDict):
    """What waits on disk."""

    path: str
    records: int
    bytes: int
    max_bytes: int
    oldest_age_seconds: float | None
    degraded: bool
    memory_records: int
    dead_letters: int
    streams: dict[str, int]


class DeliveryDocument(TypedDict):
    """One endpoint."""

    endpoint: str
    state: str
    since_unix_seconds: float
    requests: int
    records: int
    rejected: int
    delay_seconds: float
    last_accepted_unix_seconds: float | None
    code: str
    why: str
    cure: str


class AccountsDocument(TypedDict):
    """One stream's side of the ledger."""

    received: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    filtered: dict[str, int]
    summarised: int
    doubled: int
    held: int
    residue: int


class CoverageDocument(TypedDict):
    """One node, namespace or policy, and whether its silence is good news."""

    kind: str
    name: str
    answer: str
    last_unix_seconds: float
    usual_seconds: float | None


class RoadDocument(TypedDict):
    """What one of several roads to the same events has lost."""

    upstream: str
    compared: int
    """Events that another road has brought while this one was watched."""
    missed: int
    unknown: int
    """Events that others have brought while it was blind, or its ids had to be shed."""
    nodes: dict[str, int]
    """Those that it has missed events of, and how many."""
    never_brought: list[str]
    """Nodes that only other roads bring events of."""


class RoadsDocument(TypedDict):
    """The roads."""

    waiting: int
    """Ids that not all roads have brought as often."""
    shed: int
    roads: list[RoadDocument]


class FloodDocument(TypedDict):
    """One kind of event that is being counted instead of sent."""

    kind: str
    events: int
    """In the window that is open."""
    first_unix_seconds: float


class ProcessTracesDocument(TypedDict):
    """Processes as spans. Counts are since the start; every span's end is estimated."""

    processes: int
    """That are no spans yet."""
    remembered: int
    """Whose span was made, and that may still be parents."""
    spans: int
    orphans: int
    """Spans whose parent nobody has named."""
    early: int
    """Spans made before their process was quiet: the bound was reached."""


class LedgerDocument(TypedDict):
    """The ledger."""

    balanced: bool
    streams: dict[str, AccountsDocument]


class GapDocument(TypedDict):
    """A gap that is over."""

    stream: str
    upstream: str
    cause: str
    suspected: bool
    node: str
    started_unix_seconds: float
    ended_unix_seconds: float
    attempts: int
    lost_records: int | None
    estimated_records: int | None
    covered_by: str
    """Another road to the same events that was watched all the time."""
    detail: str


class EntryDocument(TypedDict):
    """A log line."""

    unix_seconds: float
    level: str
    event: str
    sentence: str
    fields: Json
    more: int


class CertificateDocument(TypedDict):
    """A certificate in use."""

    server: str
    use: str
    expires_unix_seconds: float


class EventDocument(TypedDict):
    """One of the latest events, where the operator asked for them."""

    number: int  # in the order of arrival, from 1 on in each life of the bridge
    unix_seconds: float
    stream: str
    text: str


class StatusDocument(TypedDict, total=False):
    """Everything. `now_unix_seconds` and `probes` are put in by the server itself."""

    now_unix_seconds: float
    answers: list[AnswerDocument]
    """Am I seeing, is it arriving, was anything missed: worst first."""
    version: str
    instance: str
    node: str
    pod: str
    """Where the manifests say so; empty elsewhere."""
    runbook_url: str
    started_unix_seconds: float
    state: str
    """`starting`, `running`, `draining` or `stopped`."""
    subscriptions: list[SubscriptionDocument]
    buffer: BufferDocument
    queue: QueueDocument
    delivery: list[DeliveryDocument]
    ledger: LedgerDocument
    roads: RoadsDocument
    """Not there unless `feed.roads` says so."""
    coverage: list[CoverageDocument]
    """Not there unless `telemetry.coverage` says so."""
    floods: list[FloodDocument] | None
    """Those with most events; `null` unless `gate.flood` says so, which may change."""
    process_traces: ProcessTracesDocument | None
    """`null` unless `mapping.process_traces` says so, which may change."""
    gaps: list[GapDocument]
    history: list[EntryDocument]
    certificates: list[CertificateDocument]
    settings: Mapping[str, Json]
    """As the operator wrote them, secrets hidden."""
    events: list[EventDocument]
    """Not there unless `status.show_events` says so."""
    probes: Mapping[str, Json]


def seconds(unix_nano: int | None) -> float | None:
    """Nanoseconds as seconds; 0 and None are "never"."""
    return unix_nano / NANOSECONDS if unix_nano else None


def gap_document(gap: Gap) -> GapDocument:
    """A gap as the page shows it."""
    return {
        "stream": gap.stream_name,
        "upstream": gap.upstream,
        "cause": gap.cause.value,
        "suspected": gap.suspected,
        "node": gap.node,
        "started_unix_seconds": gap.started_unix_nano / NANOSECONDS,
        "ended_unix_seconds": gap.ended_unix_nano / NANOSECONDS,
        "attempts": gap.attempts,
        "lost_records": gap.lost_records,
        "estimated_records": gap.estimated_records,
        "covered_by": gap.covered_by,
        "detail": gap.detail,
    }


def entry_document(entry: Entry) -> EntryDocument:
    """A log line as the page shows it."""
    return {
        "unix_seconds": entry.unix_nano / NANOSECONDS,
        "level": Level(entry.line.level).name.lower(),
        "event": entry.line.event,
        "sentence": entry.line.sentence,
        "fields": escape_json(entry.line.fields),
        "more": entry.more,
    }


def subscription_document(status: SubscriptionStatus) -> SubscriptionDocument:
    """A subscription as the page shows it."""
    return {
        "upstream": status.upstream,
        "state": status.state.value,
        "since_unix_seconds": status.since_unix_nano / NANOSECONDS,
        "blind_since_unix_seconds": seconds(status.blind_since_unix_nano),
        "attempts": status.attempts,
        "attempts_in_a_row": status.attempts_in_a_row,
        "next_attempt_in_seconds": status.next_attempt_in_seconds,
        "last_error": status.last_error,
        "error_class": status.error_class,
        "heartbeat": status.heartbeat_method,
        "last_heartbeat_unix_seconds": seconds(status.last_heartbeat_unix_nano),
        "nodes_seen": status.nodes_seen,
        "silent_nodes": list(status.silent_nodes),
        "unheard_since_unix_seconds": seconds(status.unheard_since_unix_nano),
        "streams": {
            name.value: {
                "state": stream.state.value,
                "events": stream.events,
                "last_event_unix_seconds": seconds(stream.last_event_unix_nano),
                "error": stream.error,
            }
            for name, stream in status.streams.items()
        },
        "timeline": [
            {"unix_seconds": change.unix_nano / NANOSECONDS, "state": change.state, "why": change.why}
            for change in status.timeline
        ],
    }


def delivery_document(status: SendStatus) -> DeliveryDocument:
    """The endpoint as the page shows it."""
    breaker = status.breaker
    return {
        "endpoint": status.endpoint,
        "state": breaker.state.value,
        "since_unix_seconds": breaker.since_unix_nano / NANOSECONDS,
        "requests": status.requests,
        "records": status.delivered_records,
        "rejected": status.rejected_records + status.dead_letter_records,
        "delay_seconds": breaker.delay_seconds,
        "last_accepted_unix_seconds": seconds(breaker.last_accepted_unix_nano),
        "code": breaker.code,
        "why": breaker.why,
        "cure": breaker.cure,
    }


def ledger_document(
    postings: Iterable[Posting], *, held: Mapping[Stream, int], residue: Mapping[Stream, int]
) -> LedgerDocument:
    """The ledger, stream by stream.

    Args:
        postings: the sums, from `Ledger.postings`.
        held: records in the bridge's hands.
        residue: from `Ledger.residue`.
    """
    streams: dict[str, AccountsDocument] = {
        stream.value: {
            "received": 0,
            "delivered": 0,
            "rejected": 0,
            "dropped": {},
            "filtered": {},
            "summarised": 0,
            "doubled": 0,
            "held": held.get(stream, 0),
            "residue": residue.get(stream, 0),
        }
        for stream in Stream
    }
    for stream, account, reason, records in postings:
        accounts = streams[stream.value]
        match account:
            case Account.RECEIVED:
                accounts["received"] += records
            case Account.DELIVERED:
                accounts["delivered"] += records
            case Account.REJECTED:
                accounts["rejected"] += records
            case Account.DROPPED:
                accounts["dropped"][reason] = accounts["dropped"].get(reason, 0) + records
            case Account.FILTERED:
                accounts["filtered"][reason] = accounts["filtered"].get(reason, 0) + records
            case Account.SUMMARISED:
                accounts["summarised"] += records
            case Account.DOUBLED:
                accounts["doubled"] += records
    return {"balanced": not any(residue.values()), "streams": streams}


@dataclass(slots=True, kw_only=True)
class Life:
    """Which life of the bridge this is, and how far it has come."""

    instance_id: str
    started_unix_nano: int
    node: str = ""
    pod: str = ""
    runbook_url: str = ""
    phase: str = "starting"
    """`starting`, `running`, `draining` or `stopped`."""


def sections(components: Components, *, settings: Callable[[], Json], life: Life) -> Mapping[str, Section]:
    """Name of a section to the function that makes it, from what the components say at the moment it is asked.

    Args:
        components: the bridge's.
        settings: gives those in force, secrets hidden.
        life: which one it is.
    """
    made: Mapping[str, Callable[[], object]] = {
        "answers": lambda: _answers(components, life),
        "version": lambda: __version__,
        "instance": lambda: life.instance_id,
        "node": lambda: life.node,
        "pod": lambda: life.pod,
        "runbook_url": lambda: life.runbook_url,
        "started_unix_seconds": lambda: life.started_unix_nano / NANOSECONDS,
        "state": lambda: life.phase,
        "subscriptions": lambda: _subscriptions(components),
        "buffer": lambda: _buffer(components),
        "queue": lambda: _queue(components),
        "delivery": lambda: _delivery(components),
        "ledger": lambda: _ledger(components),
        "floods": lambda: floods_document(components.pipeline.floods),
        "process_traces": lambda: _process_traces(components),
        "gaps": lambda: [gap_document(gap) for gap in components.telemetry.history.gaps()],
        "history": lambda: [entry_document(entry) for entry in components.telemetry.history.entries()],
        "certificates": lambda: _certificates(components),
        "settings": settings,
    }
    if components.coverage is not None:
        coverage = components.coverage
        made = {**made, "coverage": lambda: coverage_document(coverage.reports(time.time()))}
    if components.roads is not None:
        roads = components.roads
        made = {**made, "roads": lambda: roads_document(roads)}
    if components.recent_events is not None:
        latest = components.recent_events
        made = {**made, "events": lambda: [event_document(noted) for noted in latest.after(0)]}
    return cast("Mapping[str, Section]", made)  # typed dictionaries are JSON, which the type checker cannot see


def coverage_document(reports: Iterable[Report]) -> list[CoverageDocument]:
    """What is known of each node, namespace and policy."""
    return [
        {
            "kind": report.subject.kind.value,
            "name": report.subject.name,
            "answer": report.answer.value,
            "last_unix_seconds": report.last_unix_seconds,
            "usual_seconds": report.usual_seconds,
        }
        for report in reports
    ]


def roads_document(roads: Roads) -> RoadsDocument:
    """What each road has lost."""
    losses = roads.losses.copy()

    def road(upstream: str) -> RoadDocument:
        mine = {node: loss for (of, node), loss in losses.items() if of == upstream}
        return {
            "upstream": upstream,
            "compared": sum(loss.compared for loss in mine.values()),
            "missed": sum(loss.missed for loss in mine.values()),
            "unknown": sum(loss.unknown for loss in mine.values()),
            "nodes": {node: loss.missed for node, loss in sorted(mine.items()) if loss.missed},
            "never_brought": sorted(node for node, loss in mine.items() if node and not loss.carried),
        }

    return {"waiting": roads.waiting, "shed": roads.shed, "roads": [road(upstream) for upstream in roads.upstreams]}


SHOWN_FLOODS = 30


def floods_document(floods: Floods) -> list[FloodDocument] | None:
    """What is being counted instead of sent, most events first."""
    if not floods.on:
        return None
    counted = [(flow.total, flow.first, str(kind)) for kind, flow in floods.windows.copy().items() if flow.total]
    return [
        {"kind": kind, "events": events, "first_unix_seconds": first / NANOSECONDS}
        for events, first, kind in sorted(counted, reverse=True)[:SHOWN_FLOODS]
    ]


def process_traces_document(tree: ProcessTree[Any]) -> ProcessTracesDocument:
    """What is known of processes."""
    return {
        "processes": len(tree),
        "remembered": tree.remembered(),
        "spans": tree.spans,
        "orphans": tree.orphans,
        "early": tree.early,
    }


def events_after(components: Components) -> Events | None:
    """What /events answers from; None when the operator does not want events to be seen."""
    latest = components.recent_events
    if latest is None:
        return None

    def answer(number: int) -> Json:
        return {"latest": latest.count, "events": [encoded_event(noted) for noted in latest.after(number)]}

    return answer


def event_document(noted: Noted) -> EventDocument:
    """An event as the page shows it."""
    return {
        "number": noted.number,
        "unix_seconds": noted.received_unix_nano / NANOSECONDS,
        "stream": noted.stream.value,
        "text": noted.text(),
    }


def encoded_event(noted: Noted) -> Json:
    """An event as /events hands it on: as KubeArmor would have sent it, had it been redacted there."""
    event = base64.b64encode(noted.event).decode("ascii")
    return {"number": noted.number, "stream": noted.stream.value, "event": event, "parses": noted.parses}


def _subscriptions(components: Components) -> list[SubscriptionDocument]:
    return [subscription_document(status) for status in components.feed.subscriptions()]


def _answers(components: Components, life: Life) -> list[AnswerDocument]:
    ledger, held = components.queue.balance()
    send = components.workers.status()
    return answers(
        components.feed.subscriptions(),
        send.endpoint,
        send.breaker,
        components.queue.depth(),
        full_in_seconds=components.queue_growth.seconds_until(components.queue_max_bytes),
        gaps=components.telemetry.history.gaps(),
        postings=ledger.postings(),
        residue=ledger.residue(held),
        started_unix_nano=life.started_unix_nano,
    )


def _buffer(components: Components) -> BufferDocument:
    buffer = components.buffer
    dropped = [p.records for p in components.queue.ledger().postings() if (p.account, p.reason) == OVERFLOWED]
    return {
        "events": buffer.waiting_events,
        "max_events": buffer.max_events,
        "under_way_bytes": buffer.under_way_bytes(),
        "under_way_max_bytes": buffer.budget.max_bytes,
        "dropped": sum(dropped),
    }


def _queue(components: Components) -> QueueDocument:
    depth = components.queue.depth()
    oldest = depth.oldest_received_unix_nano
    return {
        "path": str(components.queue.path),
        "records": depth.records,
        "bytes": depth.bytes,
        "max_bytes": components.queue_max_bytes,
        "oldest_age_seconds": None if oldest is None else max(0.0, (time.time_ns() - oldest) / NANOSECONDS),
        "degraded": depth.degraded,
        "memory_records": depth.memory_records,
        "dead_letters": depth.dead_letters,
        "streams": {stream.value: records for stream, records in depth.by_stream.items()},
    }


def _delivery(components: Components) -> list[DeliveryDocument]:
    return [delivery_document(components.workers.status())]


def _process_traces(components: Components) -> ProcessTracesDocument | None:
    processes = components.mapper.processes
    return process_traces_document(processes.tree) if processes is not None else None


def _ledger(components: Components) -> LedgerDocument:
    ledger, held = components.queue.balance()
    return ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))


def _certificates(components: Components) -> list[CertificateDocument]:
    return [
        {"server": server, "use": use, "expires_unix_seconds": expires}
        for server, use, expires in certificates_in_use(components)
    ]
