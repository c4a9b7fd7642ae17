from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, settings
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelbridge.event import Stream
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.wire import SCOPE_NAME
from otelbridge.simulator.endpoint import Inbox
from otelbridge.simulator.endpoint_answers import Request
from otelbridge.telemetry.exporters import ReloadingMetricExporter, ReloadingSpanExporter
from otelbridge.telemetry.telemetry import Telemetry
from tests.contract import (
    breaches_in_logs,
    breaches_in_metrics,
    breaches_in_spans,
    breaches_in_text,
    label_breaches,
    record_breaches,
)
from tests.peers.bridge import BridgeProcess
from tests.peers.collector import CollectorProcess
from tests.peers.prometheus import PrometheusServer
from tests.waiting import eventually

# How long it takes to make an example says something about the machine's other work, not about the code.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("any machine")

_BY_SIGNAL = {"logs": breaches_in_logs, "metrics": breaches_in_metrics, "traces": breaches_in_spans}


def _of_request(request: Request) -> set[str]:
    try:
        return _BY_SIGNAL[request.signal](request.body)
    except DecodeError:  # some tests send what is no request
        return set()


# Wherever a test meets what the bridge sends: the breaches in a method's result and arguments.
_SEEN_BY: tuple[tuple[type, str, Callable[..., Iterable[str]]], ...] = (
    (Inbox, "take", lambda _, _inbox, request, **_more: _of_request(request)),
    (ReloadingSpanExporter, "export", lambda _, _exporter, spans: _of_spans(spans)),
    (ReloadingMetricExporter, "export", lambda _, _exporter, data, *_more, **_named: _of_metrics(data)),
    (InMemorySpanExporter, "export", lambda _, _exporter, spans: _of_spans(spans)),
    (InMemoryMetricReader, "get_metrics_data", lambda data, _reader: _of_metrics(data)),
    (Telemetry, "prometheus", lambda text, _telemetry: breaches_in_text(text.decode())),
    (BridgeProcess, "metrics", lambda text, _bridge: breaches_in_text(text)),
    (CollectorProcess, "log_records", lambda found, _collector: [
        breach for one in found if one.scope.name == SCOPE_NAME for breach in record_breaches(one.record)
    ]),
    (PrometheusServer, "query", lambda found, _server, _expression: [
        breach for one in found for breach in label_breaches(one["metric"].get("__name__", ""), one["metric"])
    ]),
)  # fmt: skip


def _of_spans(spans: Any) -> set[str]:
    return breaches_in_spans(encode_spans(spans).SerializeToString())


def _of_metrics(data: Any) -> set[str]:
    return set() if data is None else breaches_in_metrics(encode_metrics(data).SerializeToString())


@pytest.fixture(autouse=True)
def _contract(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every record, metric and span that any test sees is as `docs/registry/` says; `counted` tests are left alone."""
    if request.node.get_closest_marker("counted"):
        yield
        return
    found: set[str] = set()

    def watch(owner: type, name: str, breaches: Callable[..., Iterable[str]]) -> None:
        method = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named)
            found.update(breaches(result, *arguments, **named))
            return result

        monkeypatch.setattr(owner, name, watched)

    def assembling(mapper: Mapper, *arguments: Any, **named: Any) -> None:
        make(mapper, *arguments, **named)
        assemble = mapper.assemble

        def assembled(records: list[Any]) -> bytes:
            request = assemble(records)
            if records[0].stream is not Stream.SPANS:
                found.update(breaches_in_logs(request))
            return request

        mapper.assemble = assembled

    make = Mapper.__init__
    monkeypatch.setattr(Mapper, "__init__", assembling)
    for seen in _SEEN_BY:
        watch(*seen)
    yield
    assert not found


GO_ON = ("Otel", "otelbridge-")
"""How the names of threads begin that export, and would go on in the tests to come, and fail there."""


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    eventually(
        lambda: not [one for one in threading.enumerate() if one.name.startswith(GO_ON) and one not in before],
        why="every exporter that the test has begun is closed",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: what is left for the end is short, and no worker waits for another."""
    items.sort(key=lambda item: item.path.parent.name != "acceptance")
