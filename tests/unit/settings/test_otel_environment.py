from __future__ import annotations

import os
from pathlib import Path

import pytest

from otelbridge.settings.environment import GRPC_VARIABLES, SDK_VARIABLES, STANDARD_VARIABLES, set_up_libraries
from otelbridge.settings.tree import leaves, value_at
from tests.unit.settings.loading import loaded, problems

BASE = "OTEL_EXPORTER_OTLP_"


def test_every_row_of_the_table_sets_settings_that_exist() -> None:
    known = {leaf.path for leaf in leaves()}
    assert known.issuperset(path for row in STANDARD_VARIABLES for path in row.paths)


@pytest.mark.parametrize(
    ("variables", "path", "value"),
    [
        ({"KUBEARMOR_SERVICE": "kubearmor:1234"}, "feed.endpoints", ("kubearmor:1234",)),
        ({"KUBEARMOR_SERVICE": "kubearmor"}, "feed.endpoints", ("kubearmor:32767",)),
        ({"KUBEARMOR_SERVICE": "fd00::1"}, "feed.endpoints", ("[fd00::1]:32767",)),
        ({"OTEL_SERVICE_NAME": "x"}, "telemetry.service_name", "x"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b%2Cc,d=e"}, "telemetry.resource_attributes", {"a": "b,c", "d": "e"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=y"}, "telemetry.service_name", "y"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=y", "OTEL_SERVICE_NAME": "x"}, "telemetry.service_name", "x"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "telemetry.disabled", True),
        ({"OTEL_SDK_DISABLED": "1"}, "telemetry.disabled", False),
        ({"OTEL_TRACES_EXPORTER": "console"}, "telemetry.traces.exporter", "console"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "telemetry.metrics.exporter", "none"),
        ({"OTEL_LOGS_EXPORTER": "console"}, "send.protocol", "console"),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, "send.protocol", "grpc"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "15000"}, "telemetry.metrics_interval_seconds", 15),
        ({"OTEL_LOG_LEVEL": "WARN"}, "telemetry.log_level", "warning"),
        ({BASE + "INSECURE": "true"}, "send.insecure", True),
        ({BASE + "COMPRESSION": "none"}, "telemetry.traces.compression", "none"),
        ({BASE + "HEADERS": "Api-Key=a%20b, x=1"}, "telemetry.metrics.headers", {"api-key": "a b", "x": "1"}),
        ({BASE + "TIMEOUT": "5000"}, "send.timeout_seconds", 5),
        ({BASE + "TIMEOUT": "250"}, "send.timeout_seconds", 0.25),
        ({BASE + "TIMEOUT": "10"}, "send.timeout_seconds", 10),
        ({BASE + "TIMEOUT": "5000", BASE + "LOGS_TIMEOUT": "7000"}, "send.timeout_seconds", 7),
        ({BASE + "TIMEOUT": "5000", BASE + "LOGS_TIMEOUT": "7000"}, "telemetry.traces.timeout_seconds", 5),
        ({BASE + "PROTOCOL": "http/protobuf"}, "send.endpoint", "http://localhost:4318/v1/logs"),
        ({BASE + "PROTOCOL": "http/protobuf"}, "telemetry.traces.endpoint", "http://localhost:4318/v1/traces"),
    ],
)  # fmt: skip
def test_a_standard_variable_means_here_what_it_means_everywhere(
    variables: dict[str, str], path: str, value: object
) -> None:
    allowed = variables | {"OTELBRIDGE_SEND__ALLOW_PLAINTEXT_CREDENTIALS": "true"}
    assert value_at(loaded(environment=allowed).settings, path) == value


@pytest.mark.parametrize("base", ["http://c:4318", "http://c:4318/"])
def test_a_base_endpoint_gets_each_signals_path_for_http(base: str) -> None:
    found = loaded(environment={BASE + "ENDPOINT": base, BASE + "PROTOCOL": "http/protobuf"})
    assert found.settings.send.endpoint == "http://c:4318/v1/logs"
    assert found.settings.telemetry.traces.endpoint == "http://c:4318/v1/traces"
    assert found.settings.telemetry.metrics.endpoint == "http://c:4318/v1/metrics"
    assert found.origin("send.endpoint") == "environment OTEL_EXPORTER_OTLP_ENDPOINT"


def test_a_base_endpoint_gets_its_path_when_only_the_file_says_http(tmp_path: Path) -> None:
    found = loaded("send: {protocol: http/protobuf}", {BASE + "ENDPOINT": "http://c:4318"}, folder=tmp_path).settings
    assert found.send.endpoint == "http://c:4318/v1/logs"
    assert (found.telemetry.traces.protocol, found.telemetry.traces.endpoint) == (
        "http/protobuf",
        "http://c:4318/v1/traces",
    )


def test_a_base_endpoint_stays_as_it_is_for_grpc() -> None:
    assert loaded(environment={BASE + "ENDPOINT": "http://c:4317"}).settings.send.endpoint == "http://c:4317"


def test_a_signals_own_endpoint_is_used_as_it_is() -> None:
    found = loaded(environment={BASE + "LOGS_ENDPOINT": "http://c:1/x", BASE + "PROTOCOL": "http/protobuf"})
    assert found.settings.send.endpoint == "http://c:1/x"


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        (BASE + "PROTOCOL", "http/json", "is none of grpc, http/protobuf"),
        (BASE + "TIMEOUT", "soon", "is not a number of milliseconds"),
        (BASE + "TIMEOUT", "-1", "is not above 0"),
        (BASE + "COMPRESSION", "zstd", "is none of gzip, none"),
        ("OTEL_LOGS_EXPORTER", "none", "would leave KubeArmor's events nowhere to go"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "is none of otlp, console, none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1m", "is not a number of milliseconds"),
    ],
)
def test_a_standard_variable_that_cannot_be_honoured_is_a_problem(name: str, value: str, wrong: str) -> None:
    assert problems(environment={name: value})[name].wrong.startswith(wrong)


def test_a_broken_header_variable_does_not_show_what_is_in_it() -> None:
    assert "hunter2" not in str(problems(environment={BASE + "HEADERS": "hunter2"}))


def test_a_timeout_that_is_read_as_seconds_is_noted() -> None:
    (note,) = loaded(environment={BASE + "TIMEOUT": "10"}).notes
    assert "read as 10 s" in note


def test_variables_of_the_sdks_log_pipeline_are_noted_as_without_effect() -> None:
    (note,) = loaded(environment={"OTEL_BLRP_MAX_QUEUE_SIZE": "1"}).notes
    assert note.startswith("OTEL_BLRP_MAX_QUEUE_SIZE has no effect here")


def test_how_long_requests_wait_and_how_many_records_they_hold_are_set_as_elsewhere() -> None:
    found = loaded(environment={"OTEL_BLRP_SCHEDULE_DELAY": "500", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "512"})
    assert (found.settings.send.linger_seconds, found.settings.send.max_request_records) == (0.5, 512)
    assert found.notes == ()


def test_foreign_variables_are_other_programs_business() -> None:
    assert loaded(environment={"OTEL_PYTHON_X": "1", "PATH": "/"}).notes == ()


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-5"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "9" * 5000}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "5"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": "1.5"}, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_METRICS_EXEMPLAR_FILTER": "x"}, "OTEL_METRICS_EXEMPLAR_FILTER"),
        ({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,\x1b[31m"}, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"),
        *(({row.name: " "}, row.name) for row in SDK_VARIABLES),
    ],
)
def test_what_the_sdk_would_answer_with_a_traceback_is_refused_first(variables: dict[str, str], path: str) -> None:
    assert path in problems(environment=variables)


def test_what_the_sdk_can_use_is_left_to_it() -> None:
    loaded(environment={"OTEL_BSP_MAX_QUEUE_SIZE": "5000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": " 5000 "})
    loaded(environment={"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "*, otel"})


@pytest.mark.parametrize("blank", ["", " ", "\t \n"])
def test_an_empty_variable_is_not_set_for_the_sdk_either(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {row.name: blank for row in SDK_VARIABLES} | {"OTEL_BSP_MAX_QUEUE_SIZE": "700", "OTHER": ""}
    monkeypatch.setattr(os, "environ", variables)
    set_up_libraries()
    assert {name for name in variables if name not in GRPC_VARIABLES} == {"OTEL_BSP_MAX_QUEUE_SIZE", "OTHER"}
