"""Words: a happening goes in, the sentence and the fields of its log line come out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from otelbridge.event import Gap
from otelbridge.telemetry import happenings as h


class Level(IntEnum):
    """OpenTelemetry's severity numbers."""

    DEBUG = 5
    INFO = 9
    WARNING = 13
    ERROR = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is said about one happening."""

    level: Level
    event: str
    """The happening's name, `otelbridge.stream_lost`."""
    sentence: str
    fields: Mapping[str, object]
    reason: tuple[object, ...]
    """Lines with the same reason are limited together."""
    per_window: int = 1
    """So many of them are written at once; what is more is held back until the window is over."""

    @property
    def changes_state(self) -> bool:
        """Whether what was held back has to be read before it, or the reader takes an old trouble for a new one."""
        return self.per_window > 1


@dataclass(frozen=True, slots=True)
class Narrative:
    """How one type of happening is told, where `when` holds."""

    level: Level
    sentence: str
    reason: tuple[str, ...] = ()
    """The fields that make it another reason, beside the sentence."""
    hidden: tuple[str, ...] = ()
    """Fields that the line does not show."""
    when: Callable[[Any], bool] | None = None
    per_window: int = 1


_DEBUG, _INFO, _WARNING, _ERROR = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR
_CHANGE = 5
"""Good news must not wait ten seconds behind the bad; but what flaps all day is limited like everything else."""
_CURABLE = frozenset({"permanent", "configuration"})
_TIMES = ("started_unix_nano", "ended_unix_nano")
_UNIX_NANO = "_unix_nano"

# The first row whose condition holds is told.
NARRATIVES: Mapping[type, tuple[Narrative, ...]] = {
    h.StateChanged: (Narrative(_DEBUG, "The subscription changed its state.", ("upstream", "after")),),
    h.ConnectionAttempted: (
        Narrative(
            _INFO,
            "The upstream is being watched.",
            ("upstream",),
            ("steps", *_TIMES, "status_code", "error", "error_class"),
            lambda attempt: attempt.status_code == "OK",
            _CHANGE,
        ),
        Narrative(
            _ERROR,
            "The upstream refuses us until an operator changes something.",
            ("upstream", "status_code"),
            ("steps", *_TIMES),
            lambda attempt: attempt.error_class in _CURABLE,
        ),
        Narrative(_WARNING, "The upstream could not be reached.", ("upstream", "status_code"), ("steps", *_TIMES)),
    ),
    h.StreamOpened: (Narrative(_DEBUG, "A stream opened.", ("upstream", "stream")),),
    h.StreamLost: (Narrative(_WARNING, "A stream was lost.", ("upstream", "stream", "status_code")),),
    h.ConnectionEnded: (
        Narrative(_INFO, "A connection ended.", ("upstream", "status_code"), (*_TIMES, "planned"), per_window=_CHANGE),
    ),
    h.RetryScheduled: (Narrative(_DEBUG, "The next attempt is scheduled.", ("upstream", "error_class")),),
    h.LossDetected: (Narrative(_DEBUG, "A loss was noticed.", ("upstream",)),),
    h.UpstreamRecovered: (Narrative(_INFO, "The upstream is back.", ("upstream",), per_window=_CHANGE),),
    h.HeartbeatAnswered: (Narrative(_DEBUG, "A health check was answered.", ("upstream",)),),
    h.HeartbeatMissed: (Narrative(_WARNING, "A health check was not answered.", ("upstream",)),),
    h.KeepaliveStretched: (
        Narrative(_WARNING, "The upstream found our pings too many: it is pinged less often.", ("upstream",)),
    ),
    h.CertificatesRefused: (
        Narrative(
            _ERROR, "Changed certificate files cannot be used; the present connection goes on.", ("upstream", "why")
        ),
    ),
    h.UpstreamsChanged: (Narrative(_INFO, "The addresses behind a name have changed.", ("name",), per_window=_CHANGE),),
    h.UpstreamsUnknown: (Narrative(_WARNING, "A name does not resolve; the present subscriptions go on.", ("name",)),),
    h.GapEnded: (Narrative(_WARNING, "Events could not be seen for a while.", ("stream", "upstream", "cause")),),
    h.NodeFellSilent: (Narrative(_WARNING, "A node has fallen silent while others go on.", ("node",)),),
    h.EventsOverflowed: (
        Narrative(_ERROR, "Events came faster than they could be taken to disk, and were dropped.", ("stream",)),
    ),
    h.EventDamaged: (Narrative(_WARNING, "Events did not parse as they should.", ("stream", "upstream", "how")),),
    h.QueueOpened: (Narrative(_INFO, "The queue is open.", ("path",), per_window=_CHANGE),),
    h.RecordsShed: (Narrative(_ERROR, "The queue dropped records.", ("stream", "reason")),),
    h.QueueDegraded: (Narrative(_ERROR, "The disk does not take writes: batches wait in memory.", ("path",)),),
    h.QueueRecovered: (Narrative(_INFO, "The disk takes writes again.", ("path",), per_window=_CHANGE),),
    h.QueueSalvaged: (Narrative(_ERROR, "The queue file was damaged; what could be read was kept.", ("path",)),),
    h.BatchAccepted: (
        Narrative(
            _WARNING,
            "The endpoint rejected some records of a request.",
            ("endpoint", "stream"),
            when=lambda batch: batch.rejected > 0,
        ),
        Narrative(_DEBUG, "The endpoint took a request.", ("endpoint", "stream")),
    ),
    h.DeliveryDelayed: (Narrative(_WARNING, "The endpoint does not take records for now.", ("endpoint", "code")),),
    h.DeliveryHeld: (
        Narrative(_ERROR, "The endpoint takes no records until an operator changes something.", ("endpoint", "code")),
    ),
    h.DeliveryResumed: (Narrative(_INFO, "The endpoint takes records again.", ("endpoint",), per_window=_CHANGE),),
    h.BatchSplit: (Narrative(_INFO, "A request is sent again in halves.", ("endpoint", "stream")),),
    h.BatchRefused: (
        Narrative(
            _ERROR, "The endpoint refused records for good; they are dead letters.", ("endpoint", "stream", "code")
        ),
    ),
    h.BridgeStarted: (Narrative(_INFO, "The bridge is running.", per_window=_CHANGE),),
    h.LedgerUnbalanced: (Narrative(_ERROR, "The ledger does not balance: this is a fault of the bridge."),),
    h.DrainStarted: (
        Narrative(_INFO, "The bridge stops: it delivers what it holds until the deadline.", per_window=_CHANGE),
    ),
    h.BridgeStopped: (Narrative(_INFO, "The bridge has stopped.", per_window=_CHANGE),),
    h.LibrarySpoke: (
        Narrative(
            _ERROR,
            "A library reported an error.",
            ("library", "template"),
            ("template", "level"),
            lambda spoken: spoken.level == "error",
        ),
        Narrative(_WARNING, "A library warned.", ("library", "template"), ("template", "level")),
    ),
}


def event_name(kind: type) -> str:
    """`StreamLost` -> `otelbridge.stream_lost`."""
    return "otelbridge." + re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def level_of(happening: h.Happening) -> Level:
    """How important the line of a happening is; to know it before the line is made."""
    return _row(happening).level


def _row(happening: h.Happening) -> Narrative:
    kind = type(happening)
    for row in NARRATIVES.get(kind, ()):
        if row.when is None or row.when(happening):
            return row
    return Narrative(_INFO, f"{kind.__name__}.")


def narrate(happening: h.Happening) -> Line:
    """The line of a happening; a type without a row is told by its bare name, so that nothing goes unsaid."""
    kind = type(happening)
    shown = _flat(happening)
    row = _row(happening)
    return Line(
        level=row.level,
        event=event_name(kind),
        sentence=row.sentence,
        fields={name: value for name, value in shown.items() if name not in row.hidden and value not in ("", None, ())},
        reason=(kind, row.sentence, *(shown.get(name) for name in row.reason)),
        per_window=row.per_window,
    )


def timestamp(unix_nano: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_nano / 1e9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _flat(happening: h.Happening) -> dict[str, object]:
    """The happening's fields by name: a gap is laid open, start and end become a duration, other times readable."""
    values: dict[str, object] = {}
    for field in fields(happening):
        value = getattr(happening, field.name)
        if isinstance(value, Gap):
            values |= {inner.name: getattr(value, inner.name) for inner in fields(value) if inner.name not in _TIMES}
        elif field.name.endswith(_UNIX_NANO) and field.name not in _TIMES:
            values[field.name.removesuffix(_UNIX_NANO)] = timestamp(value) if value else "never"
        else:
            values[field.name] = value
    holder: Any = getattr(happening, "gap", happening)
    if all(hasattr(holder, name) for name in _TIMES):
        values["seconds"] = round((holder.ended_unix_nano - holder.started_unix_nano) / 1e9, 3)
    return values
