"""A bridge to show on the page without a bridge: real telemetry, real status server, figures that a test moves."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed.model import StateChange, StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.feed.roads import Roads
from otelbridge.gate.flood import Floods
from otelbridge.mapping.process_tree import ProcessTree
from otelbridge.queue.checkpoint import Account, Ledger, Posting
from otelbridge.queue.model import Depth
from otelbridge.send.circuit_breaker import BreakerState, EndpointState, SendCounts
from otelbridge.send.workers import SendStatus
from otelbridge.status import document as d
from otelbridge.status.answers import answers, livez, readyz, startupz
from otelbridge.status.server import StatusServer
from otelbridge.status.settings import StatusSettings
from otelbridge.telemetry import events as e
from otelbridge.telemetry.escape import Json, escape_json
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings
from otelbridge.telemetry.supervisor import Pulse
from otelbridge.telemetry.telemetry import Telemetry

SECOND = 1_000_000_000
UPSTREAM = "kubearmor-relay.kubearmor:32767"
ENDPOINT = "http://collector.observability:4317"
MAX_BYTES = 512 * 1024 * 1024
QUIET = SignalSettings(exporter="none")


@dataclass
class Scene:
    """What the page is shown."""

    telemetry: Telemetry
    ledger: Ledger = field(default_factory=Ledger)
    state: SubscriptionState = SubscriptionState.IDLE
    error: str = ""
    blind_since: int | None = None
    held: int = 0
    alerts: int = 0
    logs: int = 0
    last_event: int = 0
    roads: Roads | None = None
    floods: Floods | None = None
    tree: ProcessTree | None = None
    events: list[d.Document] = field(default_factory=list)
    timeline: list[StateChange] = field(default_factory=list)
    pulse: Pulse = field(default_factory=lambda: Pulse("reader alerts"))
    started: float = field(default_factory=time.time)

    def move(self, after: SubscriptionState, why: str = "") -> None:
        """The subscription changes its state, now."""
        self.telemetry.tell(e.StateChanged(upstream=UPSTREAM, before=self.state, after=after, why=why))
        self.state = after
        self.timeline.append(StateChange(time.time_ns(), after, why))
        seeing = after in {SubscriptionState.WATCHING, SubscriptionState.SUSPECT}
        self.blind_since = None if seeing else self.blind_since or time.time_ns()
        self.error = "" if seeing else why

    def gap(
        self, seconds: float, cause: GapCause = GapCause.DISCONNECT, detail: str = "", covered_by: str = ""
    ) -> None:
        """A gap that ends now."""
        now = time.time_ns()
        for stream in (Stream.ALERTS, Stream.LOGS):
            self.telemetry.tell(
                e.GapEnded(
                    gap=Gap(
                        stream=stream,
                        upstream=UPSTREAM,
                        cause=cause,
                        started_unix_nano=now - int(seconds * SECOND),
                        ended_unix_nano=now,
                        attempts=3,
                        estimated_records=14 if stream is Stream.LOGS and not covered_by else None,
                        covered_by=covered_by,
                        detail=detail,
                    )
                )
            )

    def flow(self, alerts: int, logs: int, *, filtered: int = 0) -> None:
        """So many events come in and are delivered."""
        self.alerts += alerts
        self.logs += logs
        self.last_event = time.time_ns()
        for stream, events in ((Stream.ALERTS, alerts), (Stream.LOGS, logs)):
            self.ledger.post(Posting(stream, Account.RECEIVED, "", events))
        self.ledger.post(Posting(Stream.LOGS, Account.FILTERED, "probe-noise", filtered))
        for stream, records in ((Stream.ALERTS, alerts), (Stream.LOGS, logs - filtered)):
            self.ledger.post(Posting(stream, Account.DELIVERED, "", records))
            self.telemetry.tell(
                e.BatchAccepted(
                    endpoint=ENDPOINT,
                    stream=stream,
                    records=records,
                    rejected=0,
                    message="",
                    request_bytes=records * 400,
                    seconds=0.012,
                    age_seconds=0.03,
                )
            )

    def hold(self, records: int) -> None:
        """So many logs come in and wait."""
        self.logs += records
        self.held += records
        self.ledger.post(Posting(Stream.LOGS, Account.RECEIVED, "", records))

    def subscription(self) -> SubscriptionStatus:
        """What the feed would say."""
        seeing = self.state in {SubscriptionState.WATCHING, SubscriptionState.SUSPECT}
        return SubscriptionStatus(
            upstream=UPSTREAM,
            state=self.state,
            since_unix_nano=time.time_ns() - SECOND,
            streams={
                stream: StreamStatus(
                    state=StreamState.WATCHING if seeing else StreamState.CLOSED,
                    since_unix_nano=time.time_ns(),
                    events=events,
                    bytes=events * 600,
                    last_event_unix_nano=self.last_event if events else 0,
                    blind_since_unix_nano=self.blind_since,
                    events_per_second=None,
                    ends={},
                    oversized=0,
                    error="",
                    error_class="",
                )
                for stream, events in ((Stream.ALERTS, self.alerts), (Stream.LOGS, self.logs), (Stream.MESSAGES, 0))
            },
            attempts=4,
            attempts_in_a_row=0 if seeing else 2,
            last_error=self.error,
            error_class="transient" if self.error else "",
            next_attempt_in_seconds=3.2 if self.state is SubscriptionState.WAITING else None,
            connection_id="c-1",
            blind_since_unix_nano=self.blind_since,
            last_heartbeat_unix_nano=time.time_ns(),
            heartbeat_method="nonce",
            keepalive_seconds=15,
            certificate_expires_unix_seconds=None,
            nodes_seen=12,
            timeline=tuple(self.timeline),
        )

    def send(self) -> SendStatus:
        """What send would say."""
        delivered = sum(self.ledger.total(stream, Account.DELIVERED) for stream in Stream)
        breaker = BreakerState(
            state=EndpointState.DELIVERING,
            code="",
            why="",
            cure="",
            since_unix_nano=int(self.started * SECOND),
            delay_seconds=0,
            next_try_seconds=0,
            last_accepted_unix_nano=self.last_event or None,
        )
        return SendStatus(ENDPOINT, breaker, SendCounts(requests=7, delivered_records=delivered))

    def depth(self) -> Depth:
        """What the queue would say."""
        return Depth(
            batches=1,
            records=self.held,
            bytes=self.held * 450 + 4096,
            memory_records=0,
            oldest_received_unix_nano=time.time_ns() - 42 * SECOND if self.held else None,
            streams={Stream.LOGS: self.held},
            dead_letters=0,
            dead_letter_bytes=0,
            retained_bytes=0,
            degraded=False,
        )

    def sections(self) -> dict[str, object]:
        """The document's parts, as functions."""
        history = self.telemetry.history
        held = {Stream.LOGS: self.held}

        def queue() -> d.Document:
            depth = self.depth()
            return {
                "path": "/var/lib/otelbridge/queue.db",
                "records": depth.records,
                "bytes": depth.bytes,
                "max_bytes": MAX_BYTES,
                "oldest_age_seconds": 42.0 if depth.records else None,
                "degraded": False,
                "memory_records": 0,
                "dead_letters": 0,
                "streams": {"logs": depth.records},
            }

        def ledger() -> d.LedgerDocument:
            held[Stream.LOGS] = self.held
            return d.ledger_document(self.ledger.postings(), held=held, residue=self.ledger.residue(held))

        return {
            "version": lambda: "0.1.0",
            "instance": lambda: "3f0c1a52",
            "started_unix_seconds": lambda: self.started,
            "state": lambda: "running",
            "subscriptions": lambda: d.shown([self.subscription()]),
            "buffer": lambda: {"events": 0, "bytes": 0, "max_events": 100_000, "max_bytes": 1 << 26, "dropped": 0},
            "queue": queue,
            "delivery": lambda: [d.delivery_document(self.send())],
            "answers": lambda: answers(
                [self.subscription()],
                ENDPOINT,
                self.send().breaker,
                self.depth(),
                full_in_seconds=None,
                gaps=history.gaps(),
                postings=self.ledger.postings(),
                residue={},
                started_unix_nano=int(self.started * SECOND),
            ),
            "node": lambda: "node-7",
            "pod": lambda: "otelbridge-x7k2p",
            "runbook_url": lambda: "",
            "ledger": ledger,
            "gaps": lambda: [d.gap_document(gap) for gap in history.gaps()],
            "history": lambda: [d.entry_document(entry) for entry in history.entries()],
            "certificates": lambda: [
                {"server": UPSTREAM, "use": "client", "expires_unix_seconds": time.time() + 40 * 86400},
                {"server": ENDPOINT, "use": "ca", "expires_unix_seconds": time.time() + 9 * 86400},
            ],
            "settings": lambda: {
                "feed": {"endpoints": [UPSTREAM], "streams": ["alerts", "logs", "messages"]},
                "send": {"endpoint": ENDPOINT, "headers": {"authorization": "(hidden)"}, "compression": "gzip"},
            },
            "events": lambda: list(self.events),
            "roads": lambda: d.roads_document(self.roads) if self.roads else None,
            "floods": lambda: d.floods_document(self.floods) if self.floods else None,
            "process_traces": lambda: d.process_traces_document(self.tree) if self.tree is not None else None,
        }


@contextmanager
def playing() -> Iterator[tuple[Scene, StatusServer]]:
    """A scene and the server that shows it."""
    telemetry = Telemetry(
        TelemetrySettings(traces=QUIET, metrics=QUIET), version="0.1.0", instance_id="3f0c1a52", stderr=io.StringIO()
    )
    scene = Scene(telemetry)

    def section(name: str) -> Json:
        part = scene.sections()[name]
        assert callable(part)
        return escape_json(part())

    server = StatusServer(
        StatusSettings(port=0),
        sections={name: lambda name=name: section(name) for name in scene.sections()},  # type: ignore[misc]
        livez=lambda: livez([scene.pulse], max_silence_seconds=60),
        readyz=lambda: readyz([scene.subscription()], scene.depth().bytes, max_bytes=MAX_BYTES, grace_seconds=120),
        startupz=lambda: startupz(started=True),
        metrics=telemetry.prometheus,
        tell=lambda _: None,
    )
    server.start()
    try:
        yield scene, server
    finally:
        server.close()
        telemetry.close(2)
