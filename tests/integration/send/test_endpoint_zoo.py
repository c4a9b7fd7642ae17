"""Each kind of endpoint that people have, over both protocols: what becomes of the records, and which cure is named."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.cli.examination import Mark, examine_endpoint
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.model import Batch
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import ZOO, answers_of, is_bad
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of, request_of
from tests.waiting import eventually

PROTOCOLS = ["grpc", "http/protobuf"]
RECORDS, SOURCES = 1200, 30
SOURCE_OF = {f"r{n}": f"node-{n % SOURCES}" for n in range(RECORDS)}


def resource_of(node: str) -> bytes:
    (per_resource,) = ExportLogsServiceRequest.FromString(request_of("x", node=node)).resource_logs
    return per_resource.resource.SerializeToString()


BAD_NODES = {node for node in set(SOURCE_OF.values()) if is_bad(resource_of(node))}
BAD = sum(node in BAD_NODES for node in SOURCE_OF.values())


class Row(NamedTuple):
    """What comes of the records."""

    state: str = "delivering"
    cure: str = ""
    set_aside: int = 0
    rejected: int | None = 0
    """By partial successes; None where it is one a request."""
    copies: int = 0


HTTPS, GZIP, NOT_OTLP = "https://", "send.compression", "not as an OTLP endpoint"
ROWS: dict[str, Row] = {
    "ok": Row(),
    "page": Row("held", NOT_OTLP),
    "blank": Row("held", NOT_OTLP),
    "cut-gzip": Row("held", NOT_OTLP),
    "json-error": Row("held", NOT_OTLP),
    "grpc-status": Row("held", "send.protocol to grpc"),
    "close": Row(),
    "http10": Row(),
    "chunked": Row(),
    "no-content": Row(),
    "interim": Row(),
    "json-partial": Row(rejected=None),
    "gzip-partial": Row(rejected=None),
    "wants-https": Row("held", HTTPS),
    "no-gzip": Row("held", GZIP),
    "refuses-all": Row("held", "send.endpoint"),
    "redirects": Row("held", "redirects are not followed"),
    "head-too-large": Row("held", "send.headers"),
    "unauthorized": Row("held", "send.token_file"),
    "too-large-tonic": Row(),
    "too-large-java": Row(),
    "too-large-nginx": Row(),
    "resets-large": Row(),
    "busy-when-large": Row(),
    "throttles-large": Row(),
    "times-out-large": Row(),
    "fails-large": Row(),
    "forbids-large": Row(),
    "slow-by-size": Row(),
    "flaky-20": Row(),
    "flaky-50": Row(),
    "flaky-85": Row(),
    "flaky-refusals": Row(),
    "flaky-unavailable": Row(),
    "bad-sources": Row(set_aside=BAD),
    "ignores-bad": Row(rejected=BAD),
}
CURE_OVER_GRPC = {
    "page": "LogsService",
    "blank": "LogsService",
    "json-error": "over gRPC",
    "grpc-status": "over gRPC",
    "wants-https": "http/protobuf",
    "redirects": "http/protobuf",
}


def test_the_table_has_a_row_for_each_kind_and_some_sources_are_bad() -> None:
    assert set(ROWS) == set(ZOO)
    assert 0 < BAD < RECORDS / 2


def batches() -> list[Batch]:
    names = list(SOURCE_OF)
    made = []
    for start in range(0, RECORDS, 60):
        some = names[start : start + 60]
        whole = batch_of(*some)
        request = b"".join(request_of(name, node=SOURCE_OF[name], padding=200) for name in some)
        made.append(
            Batch(
                stream=whole.stream,
                request=request,
                records=len(some),
                oldest_received_unix_nano=whole.oldest_received_unix_nano,
            )
        )
    return made


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_becomes_of_the_records(road: Road, protocol: str, name: str) -> None:
    row = ROWS[name]
    with OtlpEndpoint(answers=answers_of(name), workers=40) as endpoint:
        workers = road.start(endpoint, protocol=protocol, timeout_seconds=5)
        road.put(*batches())
        if row.state == "held":
            eventually(lambda: workers.status().breaker.state == "held", within_seconds=20)
            assert road.held() == RECORDS
            expected = CURE_OVER_GRPC.get(name, row.cure) if protocol == "grpc" else row.cure
            state = workers.status().breaker
            assert expected in state.cure + state.why
        else:
            eventually(lambda: road.held() == 0, within_seconds=60)
        road.closing.close()
        counts = workers.status().counts
        arrived = Counter(bodies_of(endpoint.log_records()))
    assert not set(arrived) - set(SOURCE_OF)
    assert sum(arrived.values()) - len(arrived) == row.copies
    assert counts.dead_letter_records == row.set_aside
    rejected = road.kinds().count("BatchAccepted") if row.rejected is None else row.rejected
    assert road.total(Account.REJECTED) == rejected + row.set_aside
    if row.state != "held":
        assert len(arrived) + row.set_aside == RECORDS
        assert road.total(Account.DELIVERED) == RECORDS - rejected - row.set_aside


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.state == "held"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_doctor_names_the_same_cure(protocol: str, name: str) -> None:
    with OtlpEndpoint(answers=answers_of(name)) as endpoint:
        address = endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"
        settings = section_from(SendSettings, {"protocol": protocol, "endpoint": address})
        findings = examine_endpoint(settings, send_test_record=True)
    failed = [finding for finding in findings if finding.mark is Mark.FAILED]
    assert len(failed) == 1
    expected = CURE_OVER_GRPC.get(name, ROWS[name].cure) if protocol == "grpc" else ROWS[name].cure
    assert expected in failed[0].cure + failed[0].finding
