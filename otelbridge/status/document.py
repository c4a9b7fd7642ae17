"""The status document, /status: how each part of it is made from the components' own state.

Where a part is a state that its component declares as a dataclass, the part has that class's fields, which stand and
are explained there. Times are Unix seconds as floating-point numbers (JavaScript has no 64-bit integers), ages and
delays are seconds, `null` is "never" or "not known". Every key of the document is optional for a reader: another
version has others. `now_unix_seconds` and `probes` are put in by the server itself.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from otelbridge import __version__
from otelbridge.event import NANOSECONDS, Gap, Stream
from otelbridge.feed.buffer import BUFFER_FULL
from otelbridge.gate.flood import Floods
from otelbridge.mapping.process_tree import ProcessTree
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.send.workers import SendStatus
from otelbridge.status.answers import AnswerDocument, answers
from otelbridge.status.app import Events, Section
from otelbridge.status.components import Components, certificates_in_use
from otelbridge.telemetry.coverage import Report
from otelbridge.telemetry.escape import Json
from otelbridge.telemetry.log import Level
from otelbridge.telemetry.telemetry import Entry

if TYPE_CHECKING:
    from otelbridge.feed.roads import Roads

OVERFLOWED = (Account.DROPPED, BUFFER_FULL)
SHOWN_FLOODS = 30
BY_REASON = frozenset({Account.DROPPED, Account.FILTERED})
"""Accounts that are told apart by reason or rule."""

Document = dict[str, Any]
"""What `escape_json` takes: texts, numbers, None, and lists and mappings of them."""


class AccountsDocument(TypedDict):
    """One stream's side of the ledger: records."""

    received: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    """By reason."""
    filtered: dict[str, int]
    """By rule."""
    summarised: int
    doubled: int
    held: int
    residue: int


class LedgerDocument(TypedDict):
    """The ledger."""

    balanced: bool
    streams: dict[str, AccountsDocument]


class CoverageDocument(TypedDict):
    """One node, namespace or policy, and whether its silence is good news."""

    kind: str
    name: str
    answer: str
    last_unix_seconds: float
    usual_seconds: float | None


def seconds(unix_nano: int | None) -> float | None:
    """Nanoseconds as seconds; 0 and None are "never"."""
    return unix_nano / NANOSECONDS if unix_nano else None


def shown(state: Any) -> Any:
    """A dataclass as a document of its fields, nested ones too; `x_unix_nano` becomes `x_unix_seconds`."""
    match state:
        case Mapping():
            return {str(key): shown(inner) for key, inner in state.items()}
        case list() | tuple():
            return [shown(inner) for inner in state]
        case _ if not is_dataclass(state):
            return state
    document = {}
    for name in (field.name for field in fields(state)):
        value = getattr(state, name)
        if name.endswith("unix_nano"):
            document[f"{name.removesuffix('nano')}seconds"] = seconds(value)
        else:
            document[name] = shown(value)
    return document


def gap_document(gap: Gap) -> Document:
    """A gap that is over, and its stream's name, or `all`."""
    return {**shown(gap), "stream": gap.stream_name}


def entry_document(entry: Entry) -> Document:
    """A log line, and for how many more of the same reason it stands."""
    line = entry.line
    return {
        "unix_seconds": seconds(entry.unix_nano),
        "level": Level(line.level).name.lower(),
        "event": line.event,
        "sentence": line.sentence,
        "fields": line.fields,
        "more": entry.more,
    }


def delivery_document(status: SendStatus) -> Document:
    """The endpoint: the circuit breaker's state, and what was sent."""
    return {
        **shown(status.breaker),
        "endpoint": status.endpoint,
        "requests": status.counts.requests,
        "records": status.counts.delivered_records,
        "rejected": status.counts.rejected_records + status.counts.dead_letter_records,
    }


def ledger_document(
    postings: Iterable[Posting], *, held: Mapping[Stream, int], residue: Mapping[Stream, int]
) -> LedgerDocument:
    """The ledger, stream by stream: its sums, records in the bridge's hands, and what is missing."""
    streams: dict[str, Any] = {}
    for stream in Stream:
        accounts: Document = {account.value: {} if account in BY_REASON else 0 for account in Account}
        streams[stream.value] = {**accounts, "held": held.get(stream, 0), "residue": residue.get(stream, 0)}
    for stream, account, reason, records in postings:
        sums, key = streams[stream.value], account.value
        if account in BY_REASON:
            sums, key = sums[key], reason
        sums[key] = sums.get(key, 0) + records
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

    `settings` gives those in force, as the operator wrote them, secrets hidden.
    """
    c = components
    made: dict[str, Section] = {
        "answers": lambda: _answers(c, life),
        "version": lambda: __version__,
        "instance": lambda: life.instance_id,
        "node": lambda: life.node,
        "pod": lambda: life.pod,
        "runbook_url": lambda: life.runbook_url,
        "started_unix_seconds": lambda: seconds(life.started_unix_nano),
        "state": lambda: life.phase,
        "subscriptions": lambda: shown(c.feed.subscriptions()),
        "buffer": lambda: _buffer(c),
        "queue": lambda: _queue(c),
        "delivery": lambda: [delivery_document(c.workers.status())],
        "ledger": lambda: _ledger(c),
        "floods": lambda: floods_document(c.pipeline.floods),
        "process_traces": lambda: process_traces_document(p.tree) if (p := c.mapper.processes) is not None else None,
        "gaps": lambda: [gap_document(gap) for gap in c.telemetry.history.gaps()],
        "history": lambda: [entry_document(entry) for entry in c.telemetry.history.entries()],
        "certificates": lambda: [
            {"server": server, "use": use, "expires_unix_seconds": expires}
            for server, use, expires in certificates_in_use(c)
        ],
        "settings": settings,
    }
    if (coverage := c.coverage) is not None:
        made["coverage"] = lambda: coverage_document(coverage.reports(time.time()))
    if (roads := c.roads) is not None:
        made["roads"] = lambda: roads_document(roads)
    if (latest := c.recent_events) is not None:
        made["events"] = lambda: [
            {
                "number": noted.number,
                "unix_seconds": seconds(noted.received_unix_nano),
                "stream": noted.stream.value,
                "text": noted.text(),
            }
            for noted in latest.after(0)
        ]
    return made


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


def roads_document(roads: Roads) -> Document:
    """What each of several roads to the same events has lost; the figures are those of `Loss`, all nodes together."""
    losses = roads.losses.copy()

    def road(upstream: str) -> Document:
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


def floods_document(floods: Floods) -> list[Document] | None:
    """Kinds of events that are being counted instead of sent, those with most events first; None while none may be."""
    if not floods.on:
        return None
    counted = [(flow.total, flow.first, str(kind)) for kind, flow in floods.windows.copy().items() if flow.total]
    return [
        {"kind": kind, "events": events, "first_unix_seconds": seconds(first)}
        for events, first, kind in sorted(counted, reverse=True)[:SHOWN_FLOODS]
    ]


def process_traces_document(tree: ProcessTree) -> dict[str, int]:
    """Processes as spans: how many wait to become one, are remembered as parents, and were made since the start."""
    return {
        "processes": len(tree),
        "remembered": tree.remembered(),
        "spans": tree.spans,
        "orphans": tree.orphans,
        "early": tree.early,
    }


def events_after(components: Components) -> Events | None:
    """What /events answers from: events as KubeArmor would have sent them, had they been redacted there.

    None when the operator does not want events to be seen.
    """
    latest = components.recent_events
    if latest is None:
        return None

    def answer(number: int) -> Document:
        events = [
            {
                "number": noted.number,
                "stream": noted.stream.value,
                "event": base64.b64encode(noted.event).decode("ascii"),
                "parses": noted.parses,
            }
            for noted in latest.after(number)
        ]
        return {"latest": latest.count, "events": events}

    return answer


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


def _buffer(components: Components) -> Document:
    buffer = components.buffer
    dropped = [p.records for p in components.queue.ledger().postings() if (p.account, p.reason) == OVERFLOWED]
    return {
        "events": buffer.waiting_events,
        "max_events": buffer.max_events,
        "under_way_bytes": buffer.under_way_bytes(),
        "under_way_max_bytes": buffer.budget.max_bytes,
        "dropped": sum(dropped),
    }


def _queue(components: Components) -> Document:
    depth = components.queue.depth()
    oldest = depth.oldest_received_unix_nano
    return {
        **shown(depth),
        "path": str(components.queue.path),
        "max_bytes": components.queue_max_bytes,
        "oldest_age_seconds": None if oldest is None else max(0.0, (time.time_ns() - oldest) / NANOSECONDS),
    }


def _ledger(components: Components) -> LedgerDocument:
    ledger, held = components.queue.balance()
    return ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))
