from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from docs.declared import SPANS
from otelbridge.event import ConnectStep, Stream
from otelbridge.telemetry import events as e
from otelbridge.telemetry import names as n
from otelbridge.telemetry.log import timestamp
from otelbridge.telemetry.names import SCOPE
from otelbridge.telemetry.spans import EVENTS_PER_CONNECTION, Spans
from tests.unit.telemetry.examples import example

START = 1_795_000_000_000_000_000
SECOND = 1_000_000_000


class Written:
    """The spans that came out, by name."""

    def __init__(self, spans: Spans, exporter: InMemorySpanExporter) -> None:
        self.spans = spans
        self._exporter = exporter

    def tell(self, happening: e.Event, at_seconds: float = 0) -> None:
        self.spans.apply(happening, START + int(at_seconds * SECOND))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def written() -> Iterator[Written]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Written(Spans(provider.get_tracer(SCOPE)), exporter)
    provider.shutdown()


def _attempt(*, ok: bool = True, number: int = 1) -> e.ConnectionAttempted:
    return example(  # type: ignore[no-any-return]
        e.ConnectionAttempted,
        attempt=number,
        connection_id=f"c{number}",
        steps=(
            ConnectStep(name="resolve", started_unix_nano=START, ended_unix_nano=START + 1),
            ConnectStep(
                name="health", started_unix_nano=START + 1, ended_unix_nano=START + 2, error="" if ok else "refused"
            ),
        ),
        status_code="OK" if ok else "UNAVAILABLE",
        error="" if ok else "connection refused",
        error_class="" if ok else "transient",
    )


def test_an_attempt_is_a_span_with_its_true_times_and_its_steps_as_children(written: Written) -> None:
    written.tell(_attempt())

    (connect,) = written.named("otelbridge.connect")
    (resolve,) = written.named("otelbridge.connect.resolve")
    (health,) = written.named("feeder.LogService/HealthCheck")
    assert (connect.start_time, connect.end_time) == (START, START + 2_500_000_000)
    assert connect.context is not None
    assert {resolve.parent and resolve.parent.span_id, health.parent and health.parent.span_id} == {
        connect.context.span_id
    }
    assert health.kind is SpanKind.CLIENT
    assert health.attributes == {
        "server.address": "relay",
        "server.port": 32767,
        "rpc.system.name": "grpc",
        "rpc.method": "feeder.LogService/HealthCheck",
        "rpc.response.status_code": "OK",
    }
    assert connect.status.status_code is StatusCode.UNSET


def test_a_failed_attempt_says_where_and_why(written: Written) -> None:
    written.tell(_attempt(ok=False))

    (connect,) = written.named("otelbridge.connect")
    (health,) = written.named("feeder.LogService/HealthCheck")
    assert connect.status.status_code is StatusCode.ERROR
    assert connect.status.description == "connection refused"
    assert connect.attributes is not None
    assert connect.attributes["error.type"] == "UNAVAILABLE"
    assert health.status.description == "refused"


def test_each_attempt_links_to_the_one_before_of_its_upstream(written: Written) -> None:
    written.tell(_attempt(ok=False, number=1))
    written.tell(example(e.ConnectionAttempted, upstream="other:32767"))
    written.tell(_attempt(number=2))

    first, other, second = written.named("otelbridge.connect")
    assert not first.links
    assert not other.links
    assert [link.context for link in second.links] == [first.context]
    assert second.context is not None
    assert first.context is not None
    assert second.context.trace_id != first.context.trace_id


def test_a_connections_life_is_one_trace_written_at_its_end(written: Written) -> None:
    written.tell(_attempt())
    written.tell(e.StreamOpened(upstream="relay:32767", stream=Stream.ALERTS, connection_id="c1"), 3)
    written.tell(e.StreamOpened(upstream="relay:32767", stream=Stream.LOGS, connection_id="c1"), 4)
    written.tell(e.HeartbeatMissed(upstream="relay:32767", misses=1, why="deadline"), 50)
    written.tell(
        e.StreamLost(
            upstream="relay:32767",
            stream=Stream.ALERTS,
            connection_id="c1",
            status_code="INTERNAL",
            detail="RST_STREAM",
            error_class="transient",
            events=12,
        ),
        60,
    )
    assert len(written.named("otelbridge.connection")) == 0
    written.tell(
        e.ConnectionEnded(
            upstream="relay:32767",
            connection_id="c1",
            started_unix_nano=START,
            ended_unix_nano=START + 90 * SECOND,
            events={"alerts": 12, "logs": 5},
            last_event_unix_nano=START + 59 * SECOND,
            status_code="UNAVAILABLE",
            detail="Socket closed",
        ),
        90,
    )

    (connection,) = written.named("otelbridge.connection")
    (alerts,) = written.named("feeder.LogService/WatchAlerts")
    (logs,) = written.named("feeder.LogService/WatchLogs")
    assert (connection.start_time, connection.end_time) == (START, START + 90 * SECOND)
    assert connection.attributes is not None
    assert connection.attributes["otelbridge.events"] == 17
    assert connection.attributes["otelbridge.last_event.time"] == timestamp(START + 59 * SECOND)
    assert [event.name for event in connection.events] == ["otelbridge.heartbeat_missed"]
    assert (alerts.start_time, alerts.end_time) == (START + 3 * SECOND, START + 60 * SECOND)
    assert alerts.kind is SpanKind.CLIENT
    assert alerts.attributes is not None
    assert alerts.attributes["rpc.response.status_code"] == "INTERNAL"
    assert alerts.attributes["otelbridge.events"] == 12
    assert logs.end_time == START + 90 * SECOND
    assert logs.status.status_code is StatusCode.ERROR
    assert len({span.context.trace_id for span in written.all() if span.context}) == 1


def test_a_stream_that_the_server_ends_with_ok_is_an_error_and_one_that_we_end_is_not(written: Written) -> None:
    written.tell(_attempt())
    for stream in (Stream.ALERTS, Stream.LOGS):
        written.tell(e.StreamOpened(upstream="relay:32767", stream=stream, connection_id="c1"))
    written.tell(example(e.StreamLost, connection_id="c1", stream=Stream.ALERTS, status_code="OK"), 1)
    written.tell(example(e.ConnectionEnded, connection_id="c1", status_code="OK", planned=True), 2)

    (alerts,), (logs,) = written.named(n.WATCH["alerts"]), written.named(n.WATCH["logs"])
    assert alerts.status.status_code is StatusCode.ERROR
    assert logs.status.status_code is StatusCode.UNSET


def test_a_connection_that_is_replaced_keeps_its_own_spans(written: Written) -> None:
    written.tell(_attempt(number=1))
    written.tell(e.StreamOpened(upstream="relay:32767", stream=Stream.ALERTS, connection_id="c1"), 3)
    written.tell(_attempt(number=2))
    written.tell(e.StreamOpened(upstream="relay:32767", stream=Stream.ALERTS, connection_id="c2"), 5)
    for number in (1, 2):
        written.tell(
            example(
                e.ConnectionEnded,
                connection_id=f"c{number}",
                planned=True,
                ended_unix_nano=START + (5 + number) * SECOND,
            )
        )

    first, second = written.named(n.WATCH["alerts"])
    attempts = written.named(n.CONNECT)
    assert [first.start_time, second.start_time] == [START + 3 * SECOND, START + 5 * SECOND]
    assert [span.parent for span in (first, second)] == [attempt.context for attempt in attempts]


def test_a_stream_that_opens_while_the_attempt_goes_on_counts_from_then(written: Written) -> None:
    written.tell(e.StreamOpened(upstream="relay:32767", stream=Stream.ALERTS, connection_id="c1"), 1)
    written.tell(_attempt())
    written.tell(example(e.StreamLost, connection_id="c1", stream=Stream.ALERTS), 9)

    (alerts,) = written.named(n.WATCH["alerts"])
    assert (alerts.start_time, alerts.end_time) == (START + SECOND, START + 9 * SECOND)


def test_what_is_remembered_of_a_long_life_is_bounded(written: Written) -> None:
    written.tell(_attempt())
    for _ in range(10 * EVENTS_PER_CONNECTION):
        written.tell(example(e.HeartbeatMissed))
    for number in range(2, 1000):
        written.tell(_attempt(ok=False, number=number))
    written.tell(example(e.ConnectionEnded, connection_id="c1"))

    (connection,) = written.named("otelbridge.connection")
    assert len(connection.events) == EVENTS_PER_CONNECTION
    assert not written.spans._connections


def test_happenings_before_any_attempt_make_no_span(written: Written) -> None:
    for kind in (e.StateChanged, e.HeartbeatMissed, e.StreamOpened, e.StreamLost, e.ConnectionEnded, e.BatchAccepted):
        written.tell(example(kind))

    assert not written.all()


def test_every_span_that_is_written_is_declared(written: Written) -> None:
    steps = tuple(
        ConnectStep(name=name, started_unix_nano=START, ended_unix_nano=START, error="x")
        for name in (*n.STEPS, "unheard of")
    )
    written.tell(example(e.ConnectionAttempted, steps=steps))
    written.tell(example(e.ConnectionAttempted, status_code="OK"))
    for stream in Stream:
        written.tell(e.StreamOpened(upstream="relay:32767", stream=stream, connection_id="word"))
    written.tell(example(e.ConnectionEnded))

    declared = {span.name: span for span in SPANS}
    assert {span.name for span in written.all()} == set(declared)
    for span in written.all():
        assert set(span.attributes or {}) <= set(declared[span.name].attributes)
        assert span.kind.name.lower() == declared[span.name].kind
