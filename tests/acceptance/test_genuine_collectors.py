"""A bridge that runs as users run it, into collectors that others wrote: nothing lost, twice, or changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge import __version__
from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.simulator.endpoint import OtlpEndpoint, ReceivedLog, attributes
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, uid_of
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.peers.collector import start_collector
from tests.peers.rotel import start_rotel
from tests.waiting import eventually

EVENTS = 100_000
EVENTS_PER_SECOND = 2_500
"""What this simulator, a collector, and the bridge carry together on two busy cores without an upstream drop."""
EVERYDAY_EVENTS = 20_000
"""Enough that every batch limit is met."""
STREAMS = (Stream.ALERTS, Stream.LOGS)
MINUTE = 60


def without_receipt(record: LogRecord) -> bytes:
    """All that the mapping decides of a record: the time of receipt is the bridge's own."""
    bare = LogRecord()
    bare.CopyFrom(record)
    bare.observed_time_unix_nano = 0
    return bare.SerializeToString(deterministic=True)


def essence(records: Iterable[ReceivedLog]) -> dict[object, tuple[bytes, dict[str, object]]]:
    """By uid: the record, and its resource's attributes."""
    return {uid_of(one): (without_receipt(one.record), attributes(one.resource.attributes)) for one in records}


def as_mapped(publisher: Publisher) -> list[ReceivedLog]:
    """What the mapping makes of everything that was published."""
    mapper = Mapper(MappingSettings(), version=__version__)
    records = [
        mapper.map(stream, decode(stream, body), 0)
        for (_, stream), body in zip(publisher.published, publisher.sent, strict=True)
    ]
    return [
        ReceivedLog(per_resource.resource, per_scope.scope, record)
        for per_resource in ExportLogsServiceRequest.FromString(mapper.assemble(records)).resource_logs
        for per_scope in per_resource.scope_logs
        for record in per_scope.log_records
    ]


def settled(bridge: BridgeProcess, events: int) -> bool:
    """Whether the queue is empty and the ledger balances with all of it delivered."""
    status = bridge.status()
    streams = [status["ledger"]["streams"][stream] for stream in STREAMS]
    return bool(status["ledger"]["balanced"]) and sum(one["delivered"] for one in streams) == events


@pytest.mark.collector
@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_genuine_collector_gets_every_record_once_as_it_was_mapped(
    relay: Relay, tmp_path: Path, protocol: str
) -> None:
    with start_collector(tmp_path) as collector:
        url = collector.grpc_endpoint if protocol == "grpc" else f"{collector.http_endpoint}/v1/logs"
        publisher = publish_all(relay, tmp_path, {"protocol": protocol, "endpoint": url})
        records = [one for one in collector.log_records() if one.record.event_name != "otelbridge.gap"]

    assert len(records) == EVENTS
    assert essence(records) == essence(as_mapped(publisher))


@pytest.mark.rotel
@pytest.mark.collector
@pytest.mark.timeout(300)
@pytest.mark.parametrize("events", [EVERYDAY_EVENTS, EVENTS])
def test_rotel_gets_every_record_once_as_it_was_mapped(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, events: int
) -> None:
    with start_rotel(tmp_path, forward_to=endpoint.grpc_endpoint) as rotel:
        publisher = publish_all(relay, tmp_path, {"endpoint": rotel.grpc_endpoint}, events=events)
        records = endpoint.wait_for_records(events, within=2 * MINUTE)

    assert len(records) == events
    assert essence(records) == essence(as_mapped(publisher))


def publish_all(relay: Relay, folder: Path, send: dict[str, object], *, events: int = EVENTS) -> Publisher:
    """Publishes so many events through a bridge to where `send` says, and returns when all are delivered."""
    feed = {"endpoints": [relay.endpoint], "streams": [stream.value for stream in STREAMS]}
    with running_bridge(folder / "bridge", feed=feed, send=send) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=EVENTS_PER_SECOND, streams=STREAMS, remember=True)
        publisher.publish(events)
        assert relay.dropped == 0
        eventually(lambda: settled(bridge, events), within_seconds=2 * MINUTE, why="everything is delivered")
        assert bridge.stop() == 0
    return publisher
