"""Reads the environment; nobody else does."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from otelbridge import clamp
from otelbridge.net.proxy import parse_proxy
from otelbridge.net.secrets import hidden
from otelbridge.setting import did_you_mean
from otelbridge.settings.tree import ENVIRONMENT_PREFIX, SIGNAL_PATHS, Given, Layer, Problem, leaves, pairs

CONFIG_VARIABLE = "OTELBRIDGE_CONFIG"
"""Names the settings file, where no flag does."""
GRPC_VARIABLES = {
    # Its C++ log lines stay off stderr: our log says it in words.
    "GRPC_VERBOSITY": "NONE",
    # As everywhere else: gRPC's own loses an address that /etc/hosts gives two names.
    "GRPC_DNS_RESOLVER": "native",
}


def environment() -> Mapping[str, str]:
    """A copy of the environment."""
    return dict(os.environ)


def set_up_libraries() -> None:
    """Sets what grpc takes from the environment only, each variable unless the operator has set it.

    Must be called before the libraries are imported: they read their variables then, and OpenTelemetry answers a
    context that is not installed with a traceback. There is but the one that it uses anyway.
    """
    os.environ.pop("OTEL_PYTHON_CONTEXT", None)
    for name, text in list(os.environ.items()):
        if name.startswith("OTEL_") and not text.strip():  # not set, says the specification; the SDK says: no number
            del os.environ[name]
    for variable, value in GRPC_VARIABLES.items():
        os.environ.setdefault(variable, value)


def colours_wanted(variables: Mapping[str, str]) -> bool:
    """Whether terminal output may be coloured (https://no-color.org: any non-empty NO_COLOR says no)."""
    return not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"


def config_file(flag: Path | None, variables: Mapping[str, str]) -> Path | None:
    """The settings file to read: the flag's, or the variable's, or none."""
    named = variables.get(CONFIG_VARIABLE)
    return flag or (Path(named) if named else None)


# Kubernetes puts these into every pod of a namespace that has a Service called otelbridge or otelbridge-something:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_LINK_URL = re.compile(r"^(tcp|udp|sctp)://")


def own_environment(variables: Mapping[str, str]) -> Layer:
    """What the bridge's own variables say. An empty variable counts as not set, as everywhere in OpenTelemetry."""
    layer = Layer()
    known = {leaf.environment_name: leaf for leaf in leaves()}
    for name, text in sorted(variables.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE or not text:
            continue
        leaf = known.get(name)
        if leaf is None:
            if not _is_service_link(name, text):
                layer.problems.append(_unknown(name, known))
            continue
        layer.take_text(leaf, text, f"environment {name}")
    return layer


def _is_service_link(name: str, text: str) -> bool:
    return _SERVICE_LINK.search(name) is not None or (
        name.endswith("_PORT") and _SERVICE_LINK_URL.match(text) is not None
    )


def _unknown(name: str, known: Mapping[str, object]) -> Problem:
    return Problem(
        path=name,
        wrong="there is no such setting",
        cure=did_you_mean(name, [*known, CONFIG_VARIABLE]) or "`otelbridge config init` lists every setting.",
        origin="environment",
    )


SDK_QUEUE_SIZE, SDK_BATCH_SIZE = 2048, 512
"""The SDK's defaults."""
LEAST_PLAUSIBLE_TIMEOUT_MILLISECONDS = 100
"""The specification says milliseconds, opentelemetry-python reads seconds: `10` is never meant as 10 ms."""


MOST_OF_A_COUNT = 2**31 - 1


class _Note(Exception):  # noqa: N818  # not an error: the way in which a reader says 'taken, but'
    """A value is left out; why, as a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class StandardVariable:
    """One variable: the settings that it sets, and how its text is read."""

    name: str
    paths: tuple[str, ...]
    read: Callable[[str], Any]
    meaning: str
    base_of: tuple[str, ...] = ()
    """For a base endpoint: what OTLP/HTTP appends to it, per path."""


def _headers(value: str) -> dict[str, str]:
    """W3C-baggage style: `a=1,b=2`, percent-encoded, as the exporter specification has it."""
    return {unquote(key).lower(): unquote(text) for key, text in pairs(value).items()}


def _attributes(value: str) -> dict[str, str]:
    return {unquote(key): unquote(text) for key, text in pairs(value).items()}


def _boolean(value: str) -> bool:
    """Only `true`, in any case, is true: the specification's rule for booleans."""
    return value.strip().lower() == "true"


def _milliseconds(value: str) -> float:
    return _number(value) / 1000


def _timeout(value: str) -> float:
    number = _number(value)
    return number if number < LEAST_PLAUSIBLE_TIMEOUT_MILLISECONDS else number / 1000


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError("is not a number of milliseconds") from None
    if number <= 0:
        raise ValueError("is not above 0")
    return number


def _whole_number(least: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        number = clamp.whole_number(value.strip(), most=MOST_OF_A_COUNT)
        if not least <= number <= MOST_OF_A_COUNT:
            raise ValueError(f"is not a whole number from {least} to {MOST_OF_A_COUNT}")
        return number

    return read


def _ratio(value: str) -> float:
    try:
        ratio = float(value)
    except ValueError:
        ratio = -1
    if not 0 <= ratio <= 1:
        raise ValueError("is not a number from 0 to 1")
    return ratio


def _installed(group: str, *also: str) -> Callable[[str], str]:
    """A reader for names of entry points, separated by commas."""

    def read(value: str) -> str:
        from importlib.metadata import entry_points  # noqa: PLC0415 - with all of email: for this variable only

        known = {*entry_points(group=group).names, *also}
        unknown = [name for part in value.split(",") if (name := part.strip()) not in known]
        if unknown:
            raise ValueError(f"names {unknown[0]!r}, which is not installed")
        return value

    return read


def _one_of(words: Mapping[str, str]) -> Callable[[str], str]:
    """A reader for a closed set of words, each with the word that the settings use."""

    def read(value: str) -> str:
        word = value.strip().lower()
        if word not in words:
            said = f"is none of {', '.join(words)}"
            raise ValueError(f"{said}. {did_you_mean(word, words)}".rstrip(". "))
        return words[word]

    return read


def _same(*words: str) -> dict[str, str]:
    return {word: word for word in words}


_protocol = _one_of(_same("grpc", "http/protobuf"))
_compression = _one_of(_same("gzip", "none"))
_signal_exporter = _one_of(_same("otlp", "console", "none"))
# Prometheus scrapes /metrics whatever is exported by OTLP, so the word asks for nothing more than that.
_metrics_exporter = _one_of(_same("otlp", "console", "none") | {"prometheus": "none"})
_level = _one_of(_same("debug", "info", "warning", "error") | {"trace": "debug", "warn": "warning", "fatal": "error"})


def _logs_exporter(value: str) -> str:
    word = _one_of(_same("otlp", "console", "none"))(value)
    if word == "none":
        raise ValueError("would leave KubeArmor's events nowhere to go")
    if word == "otlp":
        raise _Note("`otlp` is what the bridge does anyway")
    return "console"


_SIGNALS = (
    ("LOGS", "send", "the events"),
    ("TRACES", "telemetry.traces", "the bridge's own spans"),
    ("METRICS", "telemetry.metrics", "the bridge's own metrics"),
)

# The last word of OTEL_EXPORTER_OTLP_*, the key that it sets in each signal's section, how it is read, what it means.
_EXPORTER_ROWS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("ENDPOINT", "endpoint", str, "URL; for HTTP, `/v1/logs` and so on are appended, but not to a signal's own form."),
    ("PROTOCOL", "protocol", _protocol, "`grpc` or `http/protobuf`."),
    ("INSECURE", "insecure", _boolean, "gRPC without TLS; a scheme in the endpoint wins."),
    ("CERTIFICATE", "ca_file", str, "CA bundle that the endpoint is checked against."),
    ("CLIENT_KEY", "key_file", str, "Key of the client certificate."),
    ("CLIENT_CERTIFICATE", "cert_file", str, "Client certificate, for mutual TLS."),
    ("HEADERS", "headers", _headers, "`key=value,...`, percent-encoded."),
    ("COMPRESSION", "compression", _compression, "`gzip` or `none`."),
    ("TIMEOUT", "timeout_seconds", _timeout, f"Milliseconds; a value below {LEAST_PLAUSIBLE_TIMEOUT_MILLISECONDS} is read as seconds."),
)  # fmt: skip


def _exporter_variables() -> list[StandardVariable]:
    found = []
    for word, key, read, meaning in _EXPORTER_ROWS:
        general, base_of = f"OTEL_EXPORTER_OTLP_{word}", tuple(SIGNAL_PATHS.values()) if word == "ENDPOINT" else ()
        paths = tuple(f"{section}.{key}" for _, section, _ in _SIGNALS)
        found.append(StandardVariable(general, paths, read, meaning, base_of))
        for signal, section, whose in _SIGNALS:
            name = f"OTEL_EXPORTER_OTLP_{signal}_{word}"
            found.append(StandardVariable(name, (f"{section}.{key}",), read, f"The same, for {whose} only."))
    return found


def _kubearmor_service(value: str) -> list[str]:
    """As the receiver in KubeArmor's own adapter reads it: one address."""
    return [value.strip()]


def _proxy(value: str) -> str:
    try:
        parse_proxy(value.strip())
    except ValueError as error:
        raise _Note(f"it {error}, so it is left out") from None
    return value.strip()


def _no_proxy(value: str) -> list[str]:
    return [part for part in re.split(r"[\s,]+", value) if part]


def _proxy_variables() -> list[StandardVariable]:
    """In capitals and not; the lower case wins, as it does elsewhere."""
    found = []
    for name, keys, read, meaning in (
        ("ALL_PROXY", ("http", "https"), _proxy, "Proxy for all connections."),
        ("HTTP_PROXY", ("http",), _proxy, "Proxy for plaintext connections."),
        ("HTTPS_PROXY", ("https",), _proxy, "Proxy for TLS connections."),
        ("GRPC_PROXY", ("http", "https"), _proxy, "The same, as gRPC reads it."),
        ("NO_PROXY", ("none_for",), _no_proxy, "What is reached without a proxy, separated by commas or blanks."),
        ("NO_GRPC_PROXY", ("none_for",), _no_proxy, "The same, as gRPC reads it."),
    ):
        paths = tuple(f"{section}.proxy.{key}" for section in ("feed", "send") for key in keys)
        found += [StandardVariable(one, paths, read, meaning) for one in (name, name.lower())]
    return found


# A later row wins over an earlier one where both set the same path: the general form comes before the particular.
STANDARD_VARIABLES: tuple[StandardVariable, ...] = (
    StandardVariable("KUBEARMOR_SERVICE", ("feed.endpoints",), _kubearmor_service, "KubeArmor's or the relay's address, as KubeArmor's own adapter reads it."),
    *_proxy_variables(),
    *_exporter_variables(),
    StandardVariable("OTEL_LOGS_EXPORTER", ("send.protocol",), _logs_exporter, "`console` prints the events; `otlp` changes nothing; `none` is refused."),
    StandardVariable("OTEL_TRACES_EXPORTER", ("telemetry.traces.exporter",), _signal_exporter, "`otlp`, `console` or `none`, for the bridge's own spans."),
    StandardVariable("OTEL_METRICS_EXPORTER", ("telemetry.metrics.exporter",), _metrics_exporter, "`otlp`, `console`, `none`, or `prometheus` (`none`: /metrics is there anyway)."),
    StandardVariable("OTEL_RESOURCE_ATTRIBUTES", ("telemetry.resource_attributes",), _attributes, "Added to the bridge's own resource."),
    StandardVariable("OTEL_SERVICE_NAME", ("telemetry.service_name",), str, "`service.name` of the bridge's own telemetry."),
    StandardVariable("OTEL_SDK_DISABLED", ("telemetry.disabled",), _boolean, "`true`: no spans and metrics of the bridge's own. Events are not affected."),
    StandardVariable("OTEL_METRIC_EXPORT_INTERVAL", ("telemetry.metrics_interval_seconds",), _milliseconds, "Milliseconds between exports of the bridge's own metrics."),
    StandardVariable("OTEL_BLRP_SCHEDULE_DELAY", ("send.linger_seconds",), _milliseconds, "Milliseconds that records wait for others to share a request with."),
    StandardVariable("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", ("send.max_request_records",), _whole_number(1), "Most records of one request."),
    StandardVariable("OTEL_LOG_LEVEL", ("telemetry.log_level",), _level, "Least level of the bridge's own log lines."),
)  # fmt: skip

_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
)
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_SAMPLERS_BY_PARENT = tuple(f"parentbased_{name}" for name in _SAMPLERS)

SDK_VARIABLES: tuple[StandardVariable, ...] = tuple(
    StandardVariable(name, (), read, meaning)
    for name, read, meaning in (
        ("OTEL_BSP_SCHEDULE_DELAY", _whole_number(1), "Milliseconds between two exports of the bridge's own spans."),
        ("OTEL_BSP_EXPORT_TIMEOUT", _whole_number(1), "Milliseconds that such an export may take."),
        ("OTEL_BSP_MAX_QUEUE_SIZE", _whole_number(1), "Most spans that wait."),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _whole_number(1), "Most spans of one export."),
        ("OTEL_METRIC_EXPORT_TIMEOUT", _milliseconds, "Milliseconds that an export of metrics may take."),
        *((name, _whole_number(0), "A limit of the SDK on the bridge's own spans.") for name in _LIMITS),
        ("OTEL_TRACES_SAMPLER", _one_of(_same(*_SAMPLERS, *_SAMPLERS_BY_PARENT)), "Which own traces are kept."),
        ("OTEL_TRACES_SAMPLER_ARG", _ratio, "The share of traces that is kept, 0 to 1."),
        ("OTEL_METRICS_EXEMPLAR_FILTER", _one_of(_same("always_on", "always_off", "trace_based")), "Which measurements of the bridge's own metrics carry exemplars."),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", _installed("opentelemetry_resource_detector", "*"), "What adds to the bridge's own resource."),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", _one_of(_same("cumulative", "delta", "lowmemory")), "Temporality of the bridge's own metrics."),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", _one_of(_same("explicit_bucket_histogram", "base2_exponential_bucket_histogram")), "How the bridge's own histograms are aggregated."),
    )
)  # fmt: skip
"""Read by the SDK itself. They are checked here first: what it cannot use, it would answer with a traceback."""

NOT_APPLICABLE_PREFIXES = ("OTEL_BLRP_", "OTEL_LOGRECORD_")
"""Where the table above has no row for them, they tune what only the SDK's log pipeline has; events do not go through
that: it would drop them when full."""


def otel_environment(variables: Mapping[str, str]) -> Layer:
    """What the standard variables say; those unknown to the table are other programs' business."""
    layer = Layer()
    for row in (*STANDARD_VARIABLES, *SDK_VARIABLES):
        text = variables.get(row.name, "")
        if text.strip() or (text and not row.paths):  # the SDK takes blanks for a value
            _read_row(layer, row, text)
    waiting, sent = (variables.get(f"OTEL_BSP_MAX_{of}", "") for of in ("QUEUE_SIZE", "EXPORT_BATCH_SIZE"))
    if not layer.problems and int(sent.strip() or SDK_BATCH_SIZE) > int(waiting.strip() or SDK_QUEUE_SIZE):
        layer.problems.append(
            Problem(
                path="OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                value=sent or str(SDK_BATCH_SIZE),
                wrong=f"is above OTEL_BSP_MAX_QUEUE_SIZE ({waiting or SDK_QUEUE_SIZE})",
                cure="Lower it, or raise the other.",
                origin="environment",
            )
        )
    known = {row.name for row in STANDARD_VARIABLES}
    for name in sorted(variables):
        if name.startswith(NOT_APPLICABLE_PREFIXES) and name not in known:
            layer.notes.append(
                f"{name} has no effect here: events do not go through the SDK's log pipeline, but through the bridge's "
                "durable queue (see the queue.* and send.* settings)."
            )
    return layer


def _read_row(layer: Layer, row: StandardVariable, text: str) -> None:
    origin = f"environment {row.name}"
    try:
        value = row.read(text)
    except _Note as note:
        layer.notes.append(f"{row.name}: {note}.")
        return
    except ValueError as error:
        shown = str(hidden(row.paths[0], text)) if row.paths else text
        layer.problems.append(
            Problem(
                path=row.name,
                value=shown,
                wrong=str(error),
                cure=f"Correct it, or unset it. {row.meaning}",
                origin="environment",
            )
        )
        return
    for i, path in enumerate(row.paths):
        base = row.base_of[i] if row.base_of else ""
        layer.given.append(Given(path=path, value=value, origin=origin, base_of=base))
    if row.read is _timeout and value == _number(text):
        layer.notes.append(
            f"{row.name}={text.strip()} is read as {value:g} s: the specification says milliseconds, but nobody waits "
            f"{value:g} ms. OTELBRIDGE_SEND__TIMEOUT_SECONDS says it without doubt."
        )
    if row.name == "OTEL_RESOURCE_ATTRIBUTES" and "service.name" in value:
        layer.given.append(Given(path="telemetry.service_name", value=value["service.name"], origin=origin))
