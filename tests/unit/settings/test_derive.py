from __future__ import annotations

from pathlib import Path

from tests.unit.settings.loading import loaded


def test_the_bridges_own_telemetry_goes_where_the_events_go(tmp_path: Path) -> None:
    found = loaded(
        "send: {endpoint: 'https://c:4317', headers: {x-tenant: a}, compression: none, server_name: y}", folder=tmp_path
    )
    for signal in (found.settings.telemetry.traces, found.settings.telemetry.metrics):
        assert (signal.protocol, signal.endpoint, signal.headers, signal.compression) == (
            "grpc",
            "https://c:4317",
            {"x-tenant": "a"},
            "none",
        )
    assert found.origin("telemetry.traces.headers") == "derived from send.headers"


def test_for_http_the_other_signals_paths_follow_from_v1_logs(tmp_path: Path) -> None:
    text = "send: {protocol: http/protobuf, endpoint: 'https://c/otlp/v1/logs'}"
    found = loaded(text, folder=tmp_path).settings.telemetry
    assert (found.traces.endpoint, found.metrics.endpoint) == ("https://c/otlp/v1/traces", "https://c/otlp/v1/metrics")


def test_where_the_path_says_nothing_telemetry_goes_nowhere_and_says_so(tmp_path: Path) -> None:
    found = loaded("send: {protocol: http/protobuf, endpoint: 'https://c/ingest'}", folder=tmp_path)
    assert found.settings.telemetry.traces.exporter == "none"
    assert any("telemetry.traces.endpoint" in note for note in found.notes)


def test_with_console_there_is_no_otlp_telemetry_unless_asked_for(tmp_path: Path) -> None:
    assert loaded("send: {protocol: console}", folder=tmp_path).settings.telemetry.traces.exporter == "none"
    asked = loaded("send: {protocol: console}\ntelemetry: {traces: {endpoint: 'http://c:4317'}}", folder=tmp_path)
    assert asked.settings.telemetry.traces.exporter == "otlp"
    assert asked.settings.telemetry.metrics.exporter == "none"


def test_what_is_given_for_a_signal_is_not_replaced(tmp_path: Path) -> None:
    text = "send: {endpoint: 'http://c:4317'}\ntelemetry: {traces: {endpoint: 'http://t:4317', compression: none}}"
    found = loaded(text, folder=tmp_path)
    assert found.settings.telemetry.traces.endpoint == "http://t:4317"
    assert found.settings.telemetry.traces.compression == "none"


def test_an_empty_endpoint_of_a_signal_means_the_events_server_as_one_that_is_left_out(tmp_path: Path) -> None:
    text = "send: {endpoint: 'https://c:4317'}\ntelemetry: {traces: {endpoint: ''}}"
    found = loaded(text, folder=tmp_path)
    assert found.settings.telemetry.traces.endpoint == "https://c:4317"
    assert found.origin("telemetry.traces.endpoint") == "derived from send.endpoint"


def test_another_protocol_for_a_signal_means_its_own_default_endpoint(tmp_path: Path) -> None:
    found = loaded("telemetry: {traces: {protocol: http/protobuf}}", folder=tmp_path).settings.telemetry
    assert found.traces.endpoint == "http://localhost:4318/v1/traces"
    assert found.metrics.endpoint == "http://localhost:4317"


def test_the_events_credentials_are_lent_to_telemetry_on_the_same_server_only(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame", encoding="utf-8")
    text = f"send: {{endpoint: 'https://c:4317', token_file: {token}}}"
    lent = loaded(text, folder=tmp_path)
    assert lent.settings.telemetry.traces.lend_credentials
    assert lent.settings.telemetry.metrics.lend_credentials
    assert lent.notes == ()
    elsewhere = loaded(f"{text}\ntelemetry: {{traces: {{endpoint: 'https://d:4317'}}}}", folder=tmp_path)
    assert not elsewhere.settings.telemetry.traces.lend_credentials
    assert elsewhere.settings.telemetry.metrics.lend_credentials
