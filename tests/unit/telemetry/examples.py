"""One example of every happening, made from its type: only a new kind of field needs a new line here."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

from otelbridge.event import ConnectStep, Gap, GapCause, Stream
from otelbridge.telemetry import events

_NANO = 1_795_000_000_000_000_000
GAP = Gap(
    stream=Stream.ALERTS,
    upstream="relay:32767",
    cause=GapCause.THROTTLED,
    started_unix_nano=_NANO,
    ended_unix_nano=_NANO + 2_500_000_000,
    namespace="shop",
)
STEP = ConnectStep(name="resolve", started_unix_nano=_NANO, ended_unix_nano=_NANO + 1_000)

_BY_ANNOTATION: dict[str, object] = {
    "str": "word",
    "int": 7,
    "float": 0.25,
    "int | None": 3,
    "Stream": Stream.LOGS,
    "Gap": GAP,
    "tuple[ConnectStep, ...]": (STEP,),
    "tuple[str, ...]": ("relay:32767",),
    "tuple[tuple[float, int], ...]": ((0.5, 3),),
    "Mapping[str, int]": {"alerts": 2},
    "Mapping[str, str]": {"key": "value"},
}
_BY_NAME: dict[str, object] = {
    "upstream": "relay:32767",
    "endpoint": "http://collector:4317",
    "status_code": "UNAVAILABLE",
    "started_unix_nano": _NANO,
    "ended_unix_nano": _NANO + 2_500_000_000,
    "last_event_unix_nano": _NANO + 1_000_000_000,
    "level": "warning",
    "after": "watching",
}

TYPES = [
    kind
    for _, kind in inspect.getmembers(events, inspect.isclass)
    if is_dataclass(kind) and kind.__module__.startswith(events.__name__)
]


def example(kind: type, **changes: object) -> Any:
    """An example of a happening, with some fields changed."""
    values = {field.name: _BY_NAME.get(field.name, _BY_ANNOTATION.get(str(field.type))) for field in fields(kind)}
    return kind(**{**values, **changes})
