"""Makes `docs/registry/`: the contract of the records, metrics and spans, as OpenTelemetry Weaver reads registries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from docs.declared import ATTRIBUTES, PROCESS_SPAN_KEYS, SPAN_EVENTS, SPANS, Declared, Type
from otelbridge.cli.examination import TEST_EVENT
from otelbridge.mapping.severity import MESSAGE_EVENT, OPERATION_NAMES, OTHER_OPERATION, THROTTLED_EVENT
from otelbridge.mapping.synthetic import FLOOD_EVENT, GAP_EVENT
from otelbridge.mapping.wire import SCHEMA_URL
from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry import names as n
from otelbridge.telemetry.metrics import InstrumentKind

_S, _I, _D, _B = Type.STRING, Type.INT, Type.DOUBLE, Type.BOOLEAN

# Attributes of the bridge's own metrics and spans that no record has.
TELEMETRY_ATTRIBUTES: tuple[Declared, ...] = (
    Declared(n.SERVER_ADDRESS, _S, "The configured host.", "kubearmor"),
    Declared(n.SERVER_PORT, _I, "The configured port.", 32767),
    Declared(n.ERROR_TYPE, _S, "What went wrong.", "UNAVAILABLE"),
    Declared(n.STATUS_CODE, _S, "The status of a call.", "UNAVAILABLE"),
    Declared(n.RPC_SYSTEM, _S, "`grpc`.", "grpc"),
    Declared(n.RPC_METHOD, _S, "The method.", "feeder.LogService/WatchAlerts"),
    Declared(n.THREAD, _S, "The thread.", "encoder"),
    Declared(n.WORKLOAD, _S, "The controller of a pod, of whatever kind; else the pod, else the container.", "cart"),
    Declared(n.OVERFLOW, _B, "True for the series that counts what is beyond the limit of series.", "true"),
    Declared("cpu.mode", _S, "`user` or `system`.", "user"),
    Declared(n.ERROR_CLASS, _S, "What a fault asks for: to try again, or an operator.", "transient"),
    Declared(n.STATE, _S, "A state of the subscription or of the delivery.", "watching"),
    Declared(n.DROP_REASON, _S, "Why records were dropped.", "queue_full"),
    Declared(n.ACCOUNT, _S, "An account of the ledger.", "delivered"),
    Declared(n.REASON, _S, "The reason, or the rule, that an account is kept by.", "no shop"),
    Declared(n.OUTCOME, _S, "What became of a request.", "accepted"),
    Declared(n.HEARTBEAT_METHOD, _S, "How the upstream was asked.", "HealthCheck"),
    Declared(n.SANITIZE_REASON, _S, "What was mended.", "utf8"),
    Declared(n.CERTIFICATE_USE, _S, "What a certificate is for.", "feed"),
    Declared(n.COVERAGE_KIND, _S, "What can be heard of: `node`, `namespace` or `policy`.", "node"),
    Declared(
        n.COVERAGE_ANSWER,
        _S,
        "`usual`, `silent`, `unknown` (the bridge was blind) or `never` (since the start).",
        "silent",
    ),
    Declared(n.CONNECTION_ID, _S, "A connection of this life of the bridge.", "c1"),
    Declared(n.ATTEMPT, _I, "The number of the attempt.", 3),
    Declared(n.EVENTS, _I, "Events that came.", 12),
    Declared(
        "otelbridge.trace.root",
        _S,
        "What a trace is about, on its root: `exec_session`, `container` or `host`.",
        "container",
    ),
    Declared(
        "otelbridge.process.start",
        _S,
        "How a process' start is known: `exec`, `first_event`, or `child`, who was the first to speak of it.",
        "exec",
    ),
    Declared(
        "otelbridge.process.end",
        _S,
        "`estimated`, always: the last moment at which it is known to have lived.",
        "estimated",
    ),
    Declared("otelbridge.process.parent", _S, "`unknown` on a process whose parent no event has named.", "unknown"),
    Declared(
        "otelbridge.process.continued",
        _B,
        "True where the process already had a span, which is the parent of this one.",
        "true",
    ),
    Declared(n.LAST_EVENT, _S, "When the last of them came; not there where none did.", "2026-07-25T17:20:00.123Z"),
    Declared(n.MISSES, _I, "Health checks in a row without an answer.", 2),
)
OURS = ("kubearmor.", "otelbridge.")
"""No semantic convention defines what begins so."""
BY_SPECIFICATION = frozenset({n.OVERFLOW})
"""Attributes that OpenTelemetry's specification has and its conventions' registry has not: defined here."""
TYPES = {one.key: one.type for one in (*ATTRIBUTES, *TELEMETRY_ATTRIBUTES)}
"""Of every attribute: on records, metrics and spans."""

_INSTRUMENTS = {
    InstrumentKind.COUNTER: "counter",
    InstrumentKind.HISTOGRAM: "histogram",
    InstrumentKind.OBSERVABLE_COUNTER: "counter",
    InstrumentKind.OBSERVABLE_UP_DOWN_COUNTER: "updowncounter",
    InstrumentKind.OBSERVABLE_GAUGE: "gauge",
}
_SPAN_ID = re.compile("(?<=[a-z])(?=[A-Z])")
_OPERATIONS = (*OPERATION_NAMES.values(), OTHER_OPERATION)
EVENT_NAMES: dict[str, str] = {
    **{f"kubearmor.alert.{name}": "A policy, or the default posture, matched." for name in _OPERATIONS},
    **{f"kubearmor.telemetry.{name}": "Something happened; no policy was asked." for name in _OPERATIONS},
    THROTTLED_EVENT: "KubeArmor stops reporting a container for a while.",
    MESSAGE_EVENT: "KubeArmor about itself.",
    TEST_EVENT: "A test record of `otelbridge doctor`; nothing has happened.",
    GAP_EVENT: "A stretch of time that could not be seen.",
    FLOOD_EVENT: "Events of one kind that were counted instead of sent.",
}

OWN_EVENTS = (GAP_EVENT, FLOOD_EVENT)
"""The bridge's own; their attributes begin with their names."""


def files() -> dict[str, str]:
    """Name to content of each file of the registry."""
    version = SCHEMA_URL.rpartition("/")[2]
    manifest = {
        "schema_url": "https://github.com/otelbridge/otelbridge/docs/registry/0.1.0",
        "description": "What otelbridge sends: KubeArmor's events as log records, its own metrics and spans.",
        "stability": "development",
        "dependencies": [
            {
                "schema_url": SCHEMA_URL,
                "registry_path": f"https://github.com/open-telemetry/semantic-conventions/archive/refs/tags/v{version}.zip[model]",
            }
        ],
    }
    return {
        "manifest.yaml": _text(manifest),
        "attributes.yaml": _text({"groups": list(_attribute_groups())}),
        "events.yaml": _text({"groups": list(_events())}),
        "metrics.yaml": _text({"groups": list(_metrics())}),
        "spans.yaml": _text({"groups": [*_spans(), *_span_events()]}),
    }


def _attribute_groups() -> Iterator[dict[str, Any]]:
    """Ours are defined; those of the conventions are listed in `events.yaml`, by reference."""
    for name, declared in (("kubearmor", ATTRIBUTES), ("otelbridge", TELEMETRY_ATTRIBUTES)):
        brief = {"kubearmor": "Attributes of the records.", "otelbridge": "Attributes of metrics and spans."}[name]
        yield {
            "id": f"registry.{name}",
            "type": "attribute_group",
            "display_name": f"{name} attributes",
            "brief": brief,
            "attributes": [
                _defined(one) for one in declared if one.key.startswith(OURS) or one.key in BY_SPECIFICATION
            ],
        }


def _defined(one: Declared) -> dict[str, Any]:
    example = one.example
    examples = [example] if one.type is not Type.STRINGS else [list(example)]  # type: ignore[arg-type]
    shown = {} if one.type is Type.BOOLEAN else {"examples": examples}
    return {"id": one.key, "type": str(one.type), "stability": "development", "brief": one.brief, **shown}


def _events() -> Iterator[dict[str, Any]]:
    own = {event: [one.key for one in ATTRIBUTES if one.key.startswith(f"{event}.")] for event in OWN_EVENTS}
    common = [one.key for one in ATTRIBUTES if not one.key.startswith(tuple(f"{event}." for event in OWN_EVENTS))]
    yield {
        "id": "attributes.record",
        "type": "attribute_group",
        "brief": "What a record and its resource can hold.",
        "attributes": _references(common),
    }
    for name, brief in EVENT_NAMES.items():
        yield {
            "id": f"event.{name}",
            "type": "event",
            "name": name,
            "stability": "development",
            "brief": brief,
            "extends": "attributes.record",
            "attributes": _references(own.get(name, ["kubearmor.stream"])),
        }


def _metrics() -> Iterator[dict[str, Any]]:
    for one in INSTRUMENTS.values():
        yield {
            "id": f"metric.{one.name}",
            "type": "metric",
            "metric_name": one.name,
            "instrument": _INSTRUMENTS[one.kind],
            "unit": one.unit,
            "stability": "development",
            "brief": one.description,
            "attributes": _references(one.attributes),
        }


def _spans() -> Iterator[dict[str, Any]]:
    yield {
        "id": "span.kubearmor.process.internal",
        "type": "span",
        "span_kind": "internal",
        "stability": "development",
        "brief": "A process that events speak of, named by its executable; or the root of such a trace. By opt-in.",
        "attributes": _references(PROCESS_SPAN_KEYS),
    }
    for one in SPANS:
        yield {
            "id": f"span.{_SPAN_ID.sub('_', one.name.replace('/', '.')).lower()}.{one.kind}",
            "type": "span",
            "span_kind": one.kind,
            "stability": "development",
            "brief": one.description,
            "note": f"Its name is `{one.name}`.",
            "attributes": _references(one.attributes),
        }


def _span_events() -> Iterator[dict[str, Any]]:
    for name, attributes in SPAN_EVENTS.items():
        yield {
            "id": f"event.{name}",
            "type": "event",
            "name": name,
            "stability": "development",
            "brief": f"On the span `{n.CONNECTION}`.",
            "attributes": _references(attributes),
        }


def _references(keys: Iterable[str]) -> list[dict[str, str]]:
    return [{"ref": key, "requirement_level": "recommended"} for key in keys]


def _text(document: dict[str, Any]) -> str:
    head = "# Made by docs/generate.py from the code; changes go there.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
