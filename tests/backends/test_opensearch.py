"""A genuine OpenSearch takes every record as it comes, with dots as objects, and needs few fields for all of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint, ReceivedLog, attributes, plain
from tests.backends.carried import Records, carry
from tests.peers.opensearch import OpenSearch, start_opensearch

pytestmark = [pytest.mark.backends, pytest.mark.timeout(400)]

INDEX = "kubearmor"
MAX_FIELDS = 300
"""Of the 1,000 that an index may have by default; others want to write into it, too."""


class Indexed(NamedTuple):
    opensearch: OpenSearch
    records: Records
    refused: dict[str, str]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    folder = tmp_path_factory.mktemp("opensearch")
    with start_opensearch(folder) as opensearch, OtlpEndpoint(http_port=None) as endpoint:
        records = carry(folder, send={"endpoint": endpoint.grpc_endpoint})
        refused = opensearch.index(INDEX, {uid: document(received) for uid, received in records.items()})
        yield Indexed(opensearch, records, refused)


def document(received: ReceivedLog) -> dict[str, Any]:
    """A record in the shape in which exporters index OTLP; OpenSearch makes objects of the dots in its keys."""
    record = received.record
    return {
        "@timestamp": (record.time_unix_nano or record.observed_time_unix_nano) // 1_000_000,
        "observedTimestamp": record.observed_time_unix_nano // 1_000_000,
        "severity": {"number": record.severity_number, "text": record.severity_text},
        "eventName": record.event_name,
        "body": as_json(plain(record.body)),
        "attributes": as_json(attributes(record.attributes)),
        "resource": {"attributes": as_json(attributes(received.resource.attributes))},
        "instrumentationScope": {
            "name": received.scope.name,
            "version": received.scope.version,
            "attributes": as_json(attributes(received.scope.attributes)),
        },
    }


def as_json(value: object) -> Any:
    match value:
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list():
            return [as_json(item) for item in value]
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def test_no_record_is_refused(indexed: Indexed) -> None:
    assert not indexed.refused, "\n".join(sorted(set(indexed.refused.values())))
    assert indexed.opensearch.count(INDEX, {"match_all": {}}) == len(indexed.records)


def test_all_samples_need_few_fields(indexed: Indexed) -> None:
    fields = indexed.opensearch.fields(INDEX)
    assert len(fields) < MAX_FIELDS, sorted(fields)


def test_pod_labels_are_taken_too_where_they_are_wanted(
    indexed: Indexed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    with OtlpEndpoint(http_port=None) as endpoint:
        records = carry(folder, send={"endpoint": endpoint.grpc_endpoint}, numbered=0, mapping={"parse_labels": True})
    refused = indexed.opensearch.index("labels", {uid: document(received) for uid, received in records.items()})
    assert not refused, "\n".join(sorted(set(refused.values())))
