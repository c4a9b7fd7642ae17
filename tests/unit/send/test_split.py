"""Halving an encoded request changes nothing but where each record is."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.send.split import halves
from tests.records import request_of

shapes = st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=5)
"""Records per scope per resource."""


def built(shape: list[list[int]]) -> bytes:
    request = ExportLogsServiceRequest()
    for r, scopes in enumerate(shape):
        per_resource = request.resource_logs.add(schema_url=f"schema-{r}")
        per_resource.resource.attributes.add(key="r").value.int_value = r
        for s, records in enumerate(scopes):
            per_scope = per_resource.scope_logs.add(schema_url=f"scope-schema-{s}")
            per_scope.scope.name = f"scope-{s}"
            for n in range(records):
                record = per_scope.log_records.add(time_unix_nano=n, trace_id=b"t" * 16)
                record.body.string_value = "x" * (n * 100)
    return request.SerializeToString()


def records_in(request: bytes) -> list[tuple[bytes, str, bytes, str, bytes]]:
    return [
        (
            per_resource.resource.SerializeToString(),
            per_resource.schema_url,
            per_scope.scope.SerializeToString(),
            per_scope.schema_url,
            record.SerializeToString(),
        )
        for per_resource in ExportLogsServiceRequest.FromString(request).resource_logs
        for per_scope in per_resource.scope_logs
        for record in per_scope.log_records
    ]


@given(shapes)
def test_each_record_is_in_one_half_with_its_resource_and_scope(shape: list[list[int]]) -> None:
    request = built(shape)
    number = sum(map(sum, shape))
    if number < 2:
        with pytest.raises(ValueError, match="cannot be halved"):
            halves(request)
        return
    (first, in_first), (second, in_second) = halves(request)
    assert (in_first, in_second) == (number // 2, number - number // 2)
    assert (len(records_in(first)), len(records_in(second))) == (in_first, in_second)
    assert records_in(first) + records_in(second) == records_in(request)


def test_joined_requests_are_split_across_their_border() -> None:
    (first, _), (second, number) = halves(request_of("a") + request_of("b", "c"))
    assert records_in(first) == records_in(request_of("a"))
    assert number == 2
    assert records_in(second) == records_in(request_of("b", "c"))


def test_a_record_that_does_not_decode_is_split_off_all_the_same() -> None:
    broken = request_of("a", "bad").replace(b"bad", b"\xff\xfe\xfd")
    with pytest.raises(DecodeError):
        ExportLogsServiceRequest.FromString(broken)
    (good, _), (bad, _) = halves(broken)
    assert records_in(good) == records_in(request_of("a"))
    assert b"\xff\xfe\xfd" in bad


def test_fields_of_a_newer_protocol_travel_in_both_halves() -> None:
    unknown = b"\xa2\x06\x03new" + b"\xa8\x06\x01" + b"\xb1\x06" + b"8" * 8 + b"\xb5\x06" + b"4" * 4
    (first, _), (second, _) = halves(unknown + request_of("a", "b"))
    assert first.startswith(unknown)
    assert second.startswith(unknown)


@given(st.binary(max_size=60))
def test_noise_is_an_error_and_nothing_else(noise: bytes) -> None:
    try:
        (_, in_first), (_, in_second) = halves(noise)
    except ValueError:
        return
    assert in_first + in_second >= 2
