"""Requests that were packed before they were stored, over every way out: what arrives is what was packed."""

from __future__ import annotations

import random
from dataclasses import replace

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.event import Stream
from otelbridge.queue import packing
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.model import Accepted, Batch, RetryLater
from otelbridge.queue.packing import HEADER, gzip_member, is_packed, joined, packed, plain_copy, unpacked
from otelbridge.send import grpc_sender
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import OK, Partial, RefuseTooLarge, Status, in_turn
from otelbridge.telemetry.events import BatchAccepted, BatchRefused
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of, request_of
from tests.waiting import eventually

Way = tuple[str, str]
WAYS = {
    "grpc, as packed": ("grpc", "gzip"),
    "grpc, compressed by grpc": ("grpc", "gzip"),
    "grpc, none": ("grpc", "none"),
    "http, gzip": ("http/protobuf", "gzip"),
    "http, none": ("http/protobuf", "none"),
}
SMALL, LARGE = request_of("small", padding=2000), request_of(*[f"l{n}" for n in range(400)], padding=100)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    if request.param == "grpc, compressed by grpc":
        monkeypatch.setattr(grpc_sender, "precompressed", lambda _: None)
    return WAYS[request.param]


def settings_for(endpoint: OtlpEndpoint, way: Way) -> SendSettings:
    protocol, compression = way
    address = endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"
    return section_from(SendSettings, {"protocol": protocol, "endpoint": address, "compression": compression})


def bodies_in(request: bytes) -> list[str]:
    return [
        record.body.string_value
        for resource in ExportLogsServiceRequest.FromString(request).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def packed_batch(*bodies: str, padding: int = 200) -> Batch:
    plain = batch_of(*bodies, padding=padding)
    held = packed(plain.request)
    assert is_packed(held)
    return Batch(
        stream=Stream.ALERTS,
        request=held,
        records=len(bodies),
        oldest_received_unix_nano=plain.oldest_received_unix_nano,
    )


@pytest.mark.parametrize(
    "parts",
    [
        [request_of("tiny")],
        [packed(SMALL)],
        [packed(LARGE)],
        [packed(LARGE), packed(LARGE)],
        [packed(LARGE), SMALL, packed(SMALL), packed(LARGE), request_of("tiny")],
        [packed(request_of(*[f"m{n}" for n in range(20_000)], padding=100))],
    ],
    ids=["as it is", "small", "large", "two", "mixed", "megabytes"],
)
def test_what_was_packed_arrives_as_it_was(endpoint: OtlpEndpoint, way: Way, parts: list[bytes]) -> None:
    sender = open_sender(settings_for(endpoint, way), version="test")
    assert sender.send(joined(parts), records=1) == Accepted()
    sender.close()
    (request,) = endpoint.inbox.requests("logs")
    assert bodies_in(request.body) == bodies_in(b"".join(map(unpacked, parts)))


def test_workers_deliver_packed_batches_through_all_codes(road: Road, endpoint: OtlpEndpoint, way: Way) -> None:
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
    endpoint.answers = in_turn([Partial(rejected=2), *[Status(code=code) for code in codes]])
    protocol, compression = way
    names = [f"r{n}" for n in range(400)]
    for n in range(0, 400, 40):
        road.put(packed_batch(*names[n : n + 40]))
    workers = road.start(endpoint, protocol=protocol, compression=compression, max_request_bytes=64 * 1024)
    eventually(lambda: road.held() == 0, within_seconds=20)
    assert road.total(Account.DELIVERED) == 398
    told = [one for one in road.told if isinstance(one, BatchAccepted)]
    assert workers.status().counts.requests == len(told) + 3
    assert max(one.request_bytes for one in told) <= 64 * 1024
    assert sum(one.request_bytes for one in told) > 400 * 200, "counted as they are once they are unpacked"


def test_what_is_too_large_unpacked_is_sent_in_smaller_requests(road: Road, endpoint: OtlpEndpoint, way: Way) -> None:
    endpoint.answers = lambda _: RefuseTooLarge(limit_bytes=3000)
    protocol, compression = way
    names, more = [f"r{n}" for n in range(64)], [f"s{n}" for n in range(64)]
    road.put(packed_batch(*names), packed_batch(*more))
    road.start(endpoint, protocol=protocol, compression=compression)
    endpoint.wait_for_records(128, within=20)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names + more)
    assert "BatchSplit" in road.kinds()
    assert road.total(Account.DELIVERED) == 128


def test_a_damaged_batch_is_set_aside_and_said_and_the_others_arrive(
    road: Road, endpoint: OtlpEndpoint, way: Way
) -> None:
    damaged = packed_batch(*[f"bad{n}" for n in range(50)])
    spoilt = bytearray(damaged.request)
    spoilt[HEADER.size + 10] ^= 0x18
    damaged = Batch(
        stream=damaged.stream,
        request=bytes(spoilt),
        records=damaged.records,
        oldest_received_unix_nano=damaged.oldest_received_unix_nano,
    )
    good = [f"r{n}" for n in range(80)]
    road.put(packed_batch(*good[:40]), damaged, packed_batch(*good[40:]))
    protocol, compression = way
    road.start(endpoint, protocol=protocol, compression=compression)
    eventually(lambda: road.held() == 0, within_seconds=30)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(good)
    assert road.total(Account.REJECTED) == 50
    assert sum(one.records for one in road.told if isinstance(one, BatchRefused)) == 50


def test_a_faulty_record_among_packed_ones_is_set_aside_alone(road: Road, endpoint: OtlpEndpoint, way: Way) -> None:
    refusal = Status(code=grpc.StatusCode.INVALID_ARGUMENT)
    endpoint.answers = lambda request: refusal if b"poison" in request.body else OK
    names = [f"r{n}" for n in range(100)]
    road.put(packed_batch(*names[:50], "poison", *names[50:]))
    protocol, compression = way
    road.start(endpoint, protocol=protocol, compression=compression)
    eventually(lambda: road.held() == 0, within_seconds=20)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names)
    assert road.total(Account.REJECTED) == 1


def test_small_batches_that_memory_has_are_compressed_as_one_and_never_unpacked(
    road: Road, endpoint: OtlpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, shared = [], random.Random(1).randbytes(500).hex()  # as a pod's attributes are
    for n in range(200):
        plain = batch_of(*[f"{n}/{m} {shared}" for m in range(2)])
        held = packed(plain.request)
        batches.append(replace(plain, request=held, plain=plain_copy(plain.request, held)))
    road.put(*batches)
    lease = road.queue.take(max_bytes=1 << 20, max_records=400)
    assert lease is not None
    monkeypatch.setattr(packing, "inflated", lambda _: pytest.fail("a part was unpacked"))
    assert len(gzip_member(joined(lease.parts))) < sum(len(batch.request) for batch in batches) / 2
    monkeypatch.undo()
    road.queue.settle(lease, RetryLater(code="", why=""))
    road.start(endpoint)
    logs = endpoint.wait_for_records(400, within=10)
    assert sorted(bodies_of(logs)) == sorted(f"{n}/{m} {shared}" for n in range(200) for m in range(2))
