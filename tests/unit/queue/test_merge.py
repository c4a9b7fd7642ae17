from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.merge import merged
from tests.records import request_of

Records = list[tuple[str, str]]


def records_of(request: bytes) -> dict[str, list[str]]:
    """Bodies by node, in order."""
    found: dict[str, list[str]] = {}
    for resource in ExportLogsServiceRequest.FromString(request).resource_logs:
        bodies = found.setdefault(resource.resource.attributes[0].value.string_value, [])
        bodies += [record.body.string_value for scope in resource.scope_logs for record in scope.log_records]
    return found


nodes = st.sampled_from(["node-2", "node-1", "x" * 200, "y" * 20_000])


@given(st.lists(st.tuples(nodes, st.text(max_size=300)), max_size=30))
def test_it_holds_the_same_records_in_the_order_of_each_resource(records: Records) -> None:
    requests = [request_of(body, node=node) for node, body in records]
    assert records_of(merged(requests)) == records_of(b"".join(requests))


@given(st.lists(st.tuples(nodes, st.text(max_size=10)), min_size=1, max_size=30))
def test_each_resource_is_there_once_and_they_are_in_order(records: Records) -> None:
    logs = ExportLogsServiceRequest.FromString(merged([request_of(body, node=node) for node, body in records]))
    resources = [each.resource.SerializeToString() for each in logs.resource_logs]
    assert len(resources) == len({node for node, _ in records})
    of_one_length = [resource for resource in resources if len(resource) == len(resources[0])]
    assert of_one_length == sorted(of_one_length)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_what_is_laid_out_otherwise_is_joined_and_never_changed(requests: list[bytes]) -> None:
    assert sorted(merged(requests)) == sorted(b"".join(requests))


def test_a_request_without_a_resource_is_joined_as_it_is() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    bare = request.SerializeToString()
    assert merged([request_of("a"), bare]) == request_of("a") + bare
