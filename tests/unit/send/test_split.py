"""Taking an encoded request apart changes nothing but where each record is."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.send.split import Contents
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


@given(shapes, st.data())
def test_each_record_is_in_one_part_with_its_resource_and_scope(shape: list[list[int]], data: st.DataObject) -> None:
    request = built(shape)
    contents = Contents(request)
    assert contents.records == sum(map(sum, shape))
    cut = data.draw(st.integers(0, contents.records))
    first, second = contents.part(0, cut), contents.part(cut, contents.records)
    assert len(records_in(first)) == cut
    assert records_in(first) + records_in(second) == records_in(request)
    assert [source.records for source in contents.sources] == [sum(scopes) for scopes in shape]


def test_the_records_of_a_source_stand_together_in_their_order_and_those_apart_at_the_end() -> None:
    requests = [request_of(f"{node}{n}", node=node) for n in range(3) for node in "abc"]
    keys = {source.key for source in Contents(request_of("x", node="b")).sources}
    contents = Contents(b"".join(requests), apart=keys.__contains__)
    assert [source.records for source in contents.sources] == [3, 3, 3]
    assert contents.part(0, 9).index(b"c2") < contents.part(0, 9).index(b"b0")
    assert [b"b%d" % n in contents.part(6 + n, 7 + n) for n in range(3)] == [True] * 3


def test_joined_requests_are_split_across_their_border() -> None:
    contents = Contents(request_of("a") + request_of("b", "c"))
    assert records_in(contents.part(0, 1)) == records_in(request_of("a"))
    assert records_in(contents.part(1, 3)) == records_in(request_of("b", "c"))


def test_a_record_that_does_not_decode_is_split_off_all_the_same() -> None:
    broken = request_of("a", "bad").replace(b"bad", b"\xff\xfe\xfd")
    with pytest.raises(DecodeError):
        ExportLogsServiceRequest.FromString(broken)
    contents = Contents(broken)
    assert records_in(contents.part(0, 1)) == records_in(request_of("a"))
    assert b"\xff\xfe\xfd" in contents.part(1, 2)


def test_fields_of_a_newer_protocol_travel_in_each_part() -> None:
    unknown = b"\xa2\x06\x03new" + b"\xa8\x06\x01" + b"\xb1\x06" + b"8" * 8 + b"\xb5\x06" + b"4" * 4
    contents = Contents(unknown + request_of("a", "b"))
    assert contents.part(0, 1).startswith(unknown)
    assert contents.part(1, 2).startswith(unknown)


@given(st.binary(max_size=60))
def test_noise_is_an_error_and_nothing_else(noise: bytes) -> None:
    try:
        contents = Contents(noise)
    except ValueError:
        return
    assert contents.records == sum(source.records for source in contents.sources)
