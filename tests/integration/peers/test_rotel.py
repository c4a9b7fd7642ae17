from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.integration.peers.export import export_grpc, export_http, request_of
from tests.peers.rotel import RotelProcess, start_rotel

pytestmark = pytest.mark.rotel


@pytest.fixture
def behind() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint(http_port=None) as endpoint:
        yield endpoint


@pytest.fixture
def rotel(tmp_path: Path, behind: OtlpEndpoint) -> Iterator[RotelProcess]:
    with start_rotel(tmp_path, forward_to=behind.grpc_endpoint) as running:
        yield running


def test_what_was_sent_over_grpc_comes_out_of_rotel_field_by_field(rotel: RotelProcess, behind: OtlpEndpoint) -> None:
    sent = request_of(3, event_name="kubearmor.alert")
    export_grpc(rotel.grpc_endpoint, sent)
    found = behind.wait_for_records(3, within=20)
    assert [log.record for log in found] == list(sent.resource_logs[0].scope_logs[0].log_records)


def test_what_was_sent_over_http_comes_out_of_rotel_field_by_field(rotel: RotelProcess, behind: OtlpEndpoint) -> None:
    sent = request_of(3, event_name="kubearmor.alert")
    export_http(rotel.http_endpoint, sent)
    found = behind.wait_for_records(3, within=20)
    assert [log.record for log in found] == list(sent.resource_logs[0].scope_logs[0].log_records)
