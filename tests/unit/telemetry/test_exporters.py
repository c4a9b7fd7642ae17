from __future__ import annotations

import io
from pathlib import Path

import pytest
import trustme

from otelbridge.setting import section_from
from otelbridge.telemetry.exporters import ReloadingSpanExporter, open_exporters
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_certificate_that_cannot_be_read_names_its_setting_and_its_file(
    protocol: str, signal: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.pem")
    given = {"protocol": protocol, "endpoint": "https://collector:4317", "ca_file": missing}
    settings = section_from(TelemetrySettings, {signal: given})

    with pytest.raises(ValueError, match=rf"telemetry\.{signal}\.ca_file: cannot read .*missing\.pem: No such file"):
        open_exporters(settings, console=io.StringIO(), lent={})


def test_none_exports_nothing() -> None:
    off = SignalSettings(exporter="none")

    opened = open_exporters(TelemetrySettings(traces=off, metrics=off), console=io.StringIO(), lent={})

    assert (opened.spans, opened.metrics) == (None, None)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_exporter_is_made_anew_when_its_files_change_and_kept_while_they_cannot_be_used(
    protocol: str, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    signal = section_from(
        SignalSettings, {"protocol": protocol, "endpoint": "https://collector:4317", "ca_file": str(ca)}
    )
    exporter = open_exporters(TelemetrySettings(traces=signal), console=io.StringIO(), lent={}).spans
    assert isinstance(exporter, ReloadingSpanExporter)
    reloading = exporter.reloading
    first = reloading.current()
    assert reloading.current() is first
    ca.unlink()
    assert reloading.current() is first
    trustme.CA().cert_pem.write_to_path(ca)
    assert reloading.current() is not first
    exporter.shutdown()
