"""Makes the documentation's tables from the tables of the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docs.declared import ATTRIBUTES, SPANS
from k8s.dashboards.queries import prometheus_name
from otelbridge.feed.model import SUBSCRIPTION_MOVES
from otelbridge.feed.status_codes import GATEWAY_WORDS, NO_ROOM, NO_ROOM_WORDS, SLOW_CLASSES, VERDICTS, ErrorClass
from otelbridge.gate.redact import SECRET_PATTERNS
from otelbridge.mapping.fields import FIELDS, MESSAGE_FIELDS, Field
from otelbridge.mapping.severity import LEVELS, SEVERITY
from otelbridge.mapping.wire import severity_text
from otelbridge.net.tls_faults import TLS_FAULTS, in_words
from otelbridge.send.classify import GRPC_MEANINGS, HTTP_CLASSES, HTTP_MEANINGS, WORDS
from otelbridge.settings.environment import SDK_VARIABLES, STANDARD_VARIABLES
from otelbridge.settings.show import plain
from otelbridge.settings.tree import leaves
from otelbridge.status.components import INSTRUMENTS
from otelbridge.telemetry.log import MESSAGES, event_name


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    columns = list(head)
    lines = [columns, *rows]
    shown = ["| " + " | ".join(map(str, cells)) + " |" for cells in lines]
    shown.insert(1, "|" + "---|" * len(columns))
    return "\n".join(shown)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def states() -> str:
    """The subscription's states and moves."""
    rows = ((before, ", ".join(sorted(after)) or "(final)") for before, after in SUBSCRIPTION_MOVES.items())
    return table(("state", "moves to"), rows)


def status_codes() -> str:
    """What the end of a stream means, by its status."""
    rows = []
    for code, verdict in VERDICTS.items():
        backoff = "slow backoff" if verdict.error_class in SLOW_CLASSES else "fast backoff"
        quick = ", within 1 s when events flowed before" if verdict.quick else ""
        rows.append((code.name, verdict.error_class, backoff + quick))
    rows.append(
        (f"RESOURCE_EXHAUSTED with {_code(NO_ROOM_WORDS)}", ErrorClass.CONFIGURATION, f"slow backoff: {NO_ROOM}")
    )
    gateway = f"UNAVAILABLE with {_code(GATEWAY_WORDS)}"
    rows.append((gateway, ErrorClass.TRANSIENT, "fast backoff: a proxy is there, KubeArmor is not"))
    rows += [
        (
            f"UNAVAILABLE with {_code(fault.words)}",
            ErrorClass.CONFIGURATION,
            "slow backoff: " + ": ".join(in_words(fault, "feed.tls")),
        )
        for fault in TLS_FAULTS
    ]
    return table(("status", "class", "next try"), rows)


def secrets() -> str:
    """The built-in patterns of secrets."""
    return table(("kind", "pattern"), ((f"`{one.name}`", f"`{_escaped(one.pattern)}`") for one in SECRET_PATTERNS))


def mapping() -> str:
    """What becomes of each field, and what the bridge adds."""
    said = re.compile("|".join(_pattern(key) for field in (*FIELDS, *MESSAGE_FIELDS) for key in field.keys))
    added = ((f"`{one.key}`", one.brief) for one in ATTRIBUTES if not said.fullmatch(one.key))
    return "\n\n".join(
        [
            _fields(FIELDS),
            "KubeArmor's messages about itself:",
            _fields(MESSAGE_FIELDS),
            "What the bridge adds:",
            table(("attribute", "what it is"), added),
        ]
    )


def _fields(fields: Iterable[Field]) -> str:
    rows = (
        (one.name, ", ".join(key if key.startswith("**") else f"`{key}`" for key in one.keys), one.note)
        for one in fields
    )
    return table(("KubeArmor", "OpenTelemetry", "how"), rows)


def _pattern(key: str) -> str:
    return re.sub("<[^>]*>", ".+", re.escape(key))


def severities() -> str:
    """The severity of each situation, by the policy's severity."""
    rows = (
        (f"`{situation}`", *(f"{number} {severity_text(number)}" for number in (*rest, none)))
        for situation, (none, *rest) in SEVERITY.items()
    )
    return table(("situation", *LEVELS[1:], "none"), rows)


def answers() -> str:
    """What the bridge does with each answer of an endpoint."""
    by_status = [
        *(("gRPC", code.name, meaning) for code, meaning in GRPC_MEANINGS.items()),
        *(("HTTP", status, meaning) for status, meaning in sorted(HTTP_MEANINGS.items())),
        *(("HTTP", f"any other {digit}xx", meaning) for digit, meaning in HTTP_CLASSES.items()),
    ]
    by_words = (
        (", ".join(sorted(one.said_with)), f"`{one.pattern.pattern.replace('|', '` or `')}`", one.meaning, one.cure)
        for one in WORDS
    )
    return "\n\n".join(
        [
            table(("protocol", "answer", "what the bridge does"), by_status),
            table(("beside", "words", "what the bridge does", "cure"), by_words),
        ]
    )


_BINARY_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def settings() -> str:
    """Every setting."""
    rows = (
        (
            f"`{leaf.path}`",
            f"`{leaf.environment_name}`",
            _default(leaf.path, leaf.setting.default),
            _escaped(leaf.setting.description),
        )
        for leaf in leaves()
    )
    return table(("key", "variable", "default", "meaning"), rows)


def _default(path: str, value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "none" if value is None or value == "" else "empty"
    if path.endswith("_bytes"):
        for size, unit in _BINARY_UNITS:
            if value % size == 0:
                return f"`{value}` ({value // size} {unit})"
    if isinstance(value, (str, Path)):
        return f"`{value}`"
    if isinstance(value, tuple):
        return _code(plain(value))
    return f"`{json.dumps(plain(value))}`"


def standard_variables() -> str:
    """Every standard variable that is honoured."""
    rows = (
        (f"`{row.name}`", _code(row.paths) or "(the SDK)", _escaped(row.meaning))
        for row in (*STANDARD_VARIABLES, *SDK_VARIABLES)
    )
    return table(("variable", "sets", "meaning"), rows)


def metrics() -> str:
    """Every metric."""
    rows = (
        (f"`{i.name}`", f"`{prometheus_name(i)}`", i.kind.value, f"`{i.unit}`", _code(i.attributes), i.description)
        for i in INSTRUMENTS.values()
    )
    return table(("metric", "on /metrics", "instrument", "unit", "attributes", "meaning"), rows)


def spans() -> str:
    """Every kind of span."""
    rows = ((f"`{span.name}`", span.kind, _code(span.attributes), span.description) for span in SPANS)
    return table(("span", "kind", "attributes", "meaning"), rows)


def log_lines() -> str:
    """Every sentence that the bridge can log."""
    rows = (
        (f"`{event_name(kind)}`", row.level.name.lower(), row.sentence, _code(row.reason))
        for kind, messages in MESSAGES.items()
        for row in messages
    )
    return table(("event", "level", "sentence", "limited by"), rows)
