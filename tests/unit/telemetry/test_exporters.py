from __future__ import annotations

import io
from pathlib import Path

import pytest
import trustme

from otelbridge.setting import section_from
from otelbridge.telemetry.exporters import ReloadingSpanExporter, addressed, metric_exporter, span_exporter
from otelbridge.telemetry.settings import SignalSettings


def test_a_signal_goes_where_it_was_told() -> None:
    signal = SignalSettings(endpoint="http://elsewhere:4317")

    assert addressed(signal, "/v1/traces") == signal


@pytest.mark.parametrize(
    ("protocol", "endpoint"), [("grpc", "http://localhost:4317"), ("http/protobuf", "http://localhost:4318/v1/metrics")]
)
def test_without_any_endpoint_the_standard_one_holds(protocol: str, endpoint: str) -> None:
    signal = section_from(SignalSettings, {"protocol": protocol})

    assert addressed(signal, "/v1/metrics").endpoint == endpoint


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("make", [span_exporter, metric_exporter])
def test_a_certificate_that_cannot_be_read_names_its_setting_and_its_file(
    protocol: str,
    make: object,
    tmp_path: Path,
) -> None:
    missing = str(tmp_path / "missing.pem")
    signal = section_from(
        SignalSettings, {"protocol": protocol, "endpoint": "https://collector:4317", "ca_file": missing}
    )

    with pytest.raises(ValueError, match=r"telemetry\.traces\.ca_file: cannot read .*missing\.pem: No such file"):
        make(signal, place="telemetry.traces", console=io.StringIO())  # type: ignore[operator]


def test_none_exports_nothing() -> None:
    off = SignalSettings(exporter="none")

    assert span_exporter(off, place="x", console=io.StringIO()) is None
    assert metric_exporter(off, place="x", console=io.StringIO()) is None


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_exporter_is_made_anew_when_its_files_change_and_kept_while_they_cannot_be_used(
    protocol: str, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    signal = section_from(
        SignalSettings, {"protocol": protocol, "endpoint": "https://collector:4317", "ca_file": str(ca)}
    )
    exporter = span_exporter(signal, place="telemetry.traces", console=io.StringIO())
    assert isinstance(exporter, ReloadingSpanExporter)
    reloading = exporter.reloading
    first = reloading.current()
    assert reloading.current() is first
    ca.unlink()
    assert reloading.current() is first
    trustme.CA().cert_pem.write_to_path(ca)
    assert reloading.current() is not first
    exporter.shutdown()
