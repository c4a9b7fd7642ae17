from __future__ import annotations

import io
from pathlib import Path

import pytest

from otelbridge.telemetry.exporters import metric_exporter, resolved, span_exporter
from otelbridge.telemetry.settings import SignalSettings

EVENTS = SignalSettings(
    endpoint="https://otlp.example.com/v1/logs",
    protocol="http/protobuf",
    headers={"authorization": "secret"},
    ca_file="/ca.pem",
)


def test_a_signal_without_an_endpoint_goes_where_the_events_go_by_the_same_means() -> None:
    signal = resolved(SignalSettings(headers={"x-team": "a"}), EVENTS, "/v1/traces")

    assert signal.endpoint == "https://otlp.example.com/v1/traces"
    assert signal.protocol == "http/protobuf"
    assert signal.headers == {"authorization": "secret", "x-team": "a"}
    assert signal.ca_file == "/ca.pem"


def test_a_signal_with_an_endpoint_of_its_own_gets_nothing_of_the_events() -> None:
    signal = resolved(SignalSettings(endpoint="http://elsewhere:4317"), EVENTS, "/v1/traces")

    assert (signal.endpoint, signal.protocol, signal.headers) == ("http://elsewhere:4317", "grpc", {})


def test_an_exporter_that_was_switched_off_stays_off() -> None:
    assert resolved(SignalSettings(exporter="none"), EVENTS, "/v1/traces").exporter == "none"


@pytest.mark.parametrize(
    ("protocol", "endpoint"), [("grpc", "http://localhost:4317"), ("http/protobuf", "http://localhost:4318/v1/metrics")]
)
def test_without_any_endpoint_the_standard_one_holds(protocol: str, endpoint: str) -> None:
    signal = SignalSettings.model_validate({"protocol": protocol})

    assert resolved(signal, None, "/v1/metrics").endpoint == endpoint


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("make", [span_exporter, metric_exporter])
def test_a_certificate_that_cannot_be_read_names_its_setting_and_its_file(
    protocol: str,
    make: object,
    tmp_path: Path,
) -> None:
    missing = str(tmp_path / "missing.pem")
    signal = SignalSettings.model_validate(
        {"protocol": protocol, "endpoint": "https://collector:4317", "ca_file": missing}
    )

    with pytest.raises(ValueError, match=r"telemetry\.traces\.ca_file: cannot read .*missing\.pem: No such file"):
        make(signal, place="telemetry.traces", console=io.StringIO())  # type: ignore[operator]


def test_none_exports_nothing() -> None:
    off = SignalSettings(exporter="none")

    assert span_exporter(off, place="x", console=io.StringIO()) is None
    assert metric_exporter(off, place="x", console=io.StringIO()) is None
