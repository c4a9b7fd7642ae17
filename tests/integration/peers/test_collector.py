from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peers.export import export_grpc, export_http, request_of
from tests.peers.collector import CollectorProcess, start_collector

pytestmark = pytest.mark.collector


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorProcess]:
    with start_collector(tmp_path) as running:
        yield running


def test_what_was_sent_over_grpc_is_found_again_field_by_field(collector: CollectorProcess) -> None:
    sent = request_of(3, event_name="kubearmor.alert")
    export_grpc(collector.grpc_endpoint, sent)
    found = collector.log_records()
    assert [log.record for log in found] == list(sent.resource_logs[0].scope_logs[0].log_records)
    assert found[0].resource == sent.resource_logs[0].resource
    assert found[0].scope == sent.resource_logs[0].scope_logs[0].scope


def test_what_was_sent_over_http_is_found_again_field_by_field(collector: CollectorProcess) -> None:
    sent = request_of(3, event_name="kubearmor.alert")
    export_http(collector.http_endpoint, sent)
    assert [log.record for log in collector.log_records()] == list(sent.resource_logs[0].scope_logs[0].log_records)


def test_two_requests_joined_end_to_end_are_one_request(collector: CollectorProcess) -> None:
    first, second = request_of(2, event_name="first"), request_of(3, event_name="second")
    export_http(collector.http_endpoint, first.SerializeToString() + second.SerializeToString())
    assert [log.record.event_name for log in collector.log_records()] == ["first"] * 2 + ["second"] * 3


def test_what_was_answered_for_is_still_there_after_a_kill_and_a_restart(collector: CollectorProcess) -> None:
    export_grpc(collector.grpc_endpoint, request_of(1, event_name="before"))
    collector.process.kill()
    collector.process.start()
    export_grpc(collector.grpc_endpoint, request_of(1, event_name="after"))
    collector.restart()
    assert [log.record.event_name for log in collector.log_records()] == ["before", "after"]


def test_a_configuration_that_the_collector_refuses_fails_with_its_own_words(tmp_path: Path) -> None:
    wrong = {"exporters": {"file": {"no_such_key": 1}}}
    with pytest.raises(AssertionError, match="no_such_key"), start_collector(tmp_path, extra=wrong):
        pass
