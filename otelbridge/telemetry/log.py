"""Log lines: the sentence of each event, how repeated lines are limited, who writes them, and what libraries say."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Generic, TextIO, TypeVar

from otelbridge.event import Gap, Stream
from otelbridge.net.secrets import without_credentials, without_values
from otelbridge.telemetry import events as e
from otelbridge.telemetry.escape import escape, escape_json
from otelbridge.telemetry.events import LibrarySpoke, Tell
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread


class Level(IntEnum):
    """OpenTelemetry's severity numbers."""

    DEBUG = 5
    INFO = 9
    WARNING = 13
    ERROR = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is said about one event."""

    level: Level
    event: str
    """The event's name, `otelbridge.stream_lost`."""
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
class Message:
    """How one type of event is told, where `when` holds."""

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

# Of several rows, the first whose condition holds is used.
# fmt: off
MESSAGES: Mapping[type, tuple[Message, ...]] = {
    e.StateChanged: (Message(_DEBUG, "The subscription changed its state.", ("upstream", "after")),),
    e.ConnectionAttempted: (
        Message(_INFO, "The upstream is being watched.", ("upstream",), ("steps", *_TIMES, "status_code", "error", "error_class"), lambda attempt: attempt.status_code == "OK", _CHANGE),
        Message(_ERROR, "The upstream refuses the subscription until an operator changes something.", ("upstream", "status_code"), ("steps", *_TIMES), lambda attempt: attempt.error_class in _CURABLE),
        Message(_WARNING, "The upstream could not be reached.", ("upstream", "status_code"), ("steps", *_TIMES)),
    ),
    e.StreamOpened: (Message(_DEBUG, "A stream opened.", ("upstream", "stream")),),
    e.StreamLost: (Message(_WARNING, "A stream was lost.", ("upstream", "stream", "status_code")),),
    e.ConnectionEnded: (Message(_INFO, "A connection ended.", ("upstream", "status_code"), (*_TIMES, "planned"), per_window=_CHANGE),),
    e.RetryScheduled: (Message(_DEBUG, "The next attempt is scheduled.", ("upstream", "error_class")),),
    e.LossDetected: (Message(_DEBUG, "A lost connection was detected.", ("upstream",)),),
    e.UpstreamRecovered: (Message(_INFO, "The upstream is back.", ("upstream",), per_window=_CHANGE),),
    e.HeartbeatAnswered: (Message(_DEBUG, "A health check was answered.", ("upstream",)),),
    e.HeartbeatMissed: (Message(_WARNING, "A health check was not answered.", ("upstream",)),),
    e.HealthChecksUseless: (Message(_WARNING, "Health checks are of no use on this connection: keepalive pings and events are relied on.", ("upstream",)),),
    e.KeepaliveStretched: (Message(_WARNING, "The upstream answered too_many_pings: keepalive pings are sent less often.", ("upstream",)),),
    e.CertificatesRefused: (Message(_ERROR, "Changed certificate files cannot be used; the current connection is kept.", ("upstream", "why")),),
    e.UpstreamsChanged: (Message(_INFO, "The addresses behind a name have changed.", ("name",), per_window=_CHANGE),),
    e.UpstreamsUnknown: (Message(_WARNING, "A name does not resolve; the current subscriptions are kept.", ("name",)),),
    e.GapEnded: (Message(_WARNING, "Events could not be received for a while.", ("stream", "upstream", "cause")),),
    e.NodeFellSilent: (Message(_WARNING, "A node that used to send events is silent.", ("node",)),),
    e.EventsOverflowed: (Message(_ERROR, "Events arrived faster than they could be written to disk, and were dropped.", ("stream",)),),
    e.EventDamaged: (Message(_WARNING, "Events did not parse.", ("stream", "upstream", "how")),),
    e.EventsEncoded: (Message(_DEBUG, "Events became records.", ("stream",)),),
    e.QueueOpened: (Message(_INFO, "The queue is open.", ("path",), per_window=_CHANGE),),
    e.QueueFolderExposed: (Message(_WARNING, "Others may write to the queue's folder: set its mode to 0700.", ("path",)),),
    e.RecordsShed: (Message(_ERROR, "The queue dropped records.", ("stream", "reason")),),
    e.FloodSummarised: (Message(_INFO, "Events of one kind were counted instead of sent.", ("kind",)),),
    e.QueueDegraded: (Message(_ERROR, "The disk does not accept writes: records wait in memory.", ("path",), per_window=_CHANGE),),
    e.QueueRecovered: (Message(_INFO, "The disk accepts writes again.", ("path",), per_window=_CHANGE),),
    e.QueueSalvaged: (Message(_ERROR, "The queue file was damaged; what could be read was kept.", ("path",)),),
    e.BatchAccepted: (
        Message(_WARNING, "The endpoint rejected some records of a request.", ("endpoint", "stream"), when=lambda batch: batch.rejected > 0),
        Message(_DEBUG, "The endpoint accepted a request.", ("endpoint", "stream")),
    ),
    e.DeliveryDelayed: (Message(_WARNING, "The endpoint does not accept records at the moment.", ("endpoint", "code")),),
    e.DeliveryHeld: (
        Message(_ERROR, "The endpoint refuses spans until an operator changes something; records are delivered.", ("endpoint", "code"), when=lambda held: held.stream is Stream.SPANS),
        Message(_ERROR, "The endpoint refuses records until an operator changes something.", ("endpoint", "code")),
    ),
    e.DeliveryResumed: (Message(_INFO, "The endpoint accepts records again.", ("endpoint",), per_window=_CHANGE),),
    e.BatchSplit: (Message(_INFO, "A request is split in two and sent again.", ("endpoint", "stream")),),
    e.BatchRefused: (Message(_ERROR, "The endpoint refused records for good; they are dead letters.", ("endpoint", "stream", "code")),),
    e.BridgeStarted: (Message(_INFO, "The bridge is running.", per_window=_CHANGE),),
    e.SettingsReloaded: (Message(_INFO, "The settings were reloaded.", per_window=_CHANGE),),
    e.SettingsRefused: (Message(_ERROR, "The settings were reloaded and cannot be used; nothing has changed.", per_window=_CHANGE),),
    e.ThreadFailed: (Message(_ERROR, "An unexpected error in a thread of the bridge; the thread continues.", ("thread", "error", "traceback")),),
    e.LedgerUnbalanced: (Message(_ERROR, "The ledger does not balance: this is a bug in the bridge."),),
    e.DrainStarted: (Message(_INFO, "The bridge is shutting down: until the deadline it delivers what it holds.", per_window=_CHANGE),),
    e.BridgeStopped: (Message(_INFO, "The bridge has stopped.", per_window=_CHANGE),),
    e.LibrarySpoke: (
        Message(_ERROR, "A library reported an error.", ("library", "template"), ("template", "level"), lambda spoken: spoken.level == "error"),
        Message(_WARNING, "A library logged a warning.", ("library", "template"), ("template", "level")),
    ),
}
# fmt: on


def event_name(kind: type) -> str:
    """`StreamLost` -> `otelbridge.stream_lost`."""
    return "otelbridge." + re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def level_of(event: e.Event) -> Level:
    """How important the line of an event is; to know it before the line is made."""
    return _row(event).level


def _row(event: e.Event) -> Message:
    kind = type(event)
    for row in MESSAGES.get(kind, ()):
        if row.when is None or row.when(event):
            return row
    return Message(_INFO, f"{kind.__name__}.")


def line_of(event: e.Event) -> Line:
    """The line of an event; a type without a row is told by its bare name, so that nothing goes unsaid."""
    kind = type(event)
    shown = _flat(event)
    row = _row(event)
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


def _flat(event: e.Event) -> dict[str, object]:
    """The event's fields by name: a gap is laid open, start and end become a duration, other times readable."""
    values: dict[str, object] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, Gap):
            values |= {inner.name: getattr(value, inner.name) for inner in fields(value) if inner.name not in _TIMES}
        elif field.name.endswith(_UNIX_NANO) and field.name not in _TIMES:
            values[field.name.removesuffix(_UNIX_NANO)] = timestamp(value) if value else "never"
        else:
            values[field.name] = value
    holder: Any = getattr(event, "gap", event)
    if all(hasattr(holder, name) for name in _TIMES):
        values["seconds"] = round((holder.ended_unix_nano - holder.started_unix_nano) / 1e9, 3)
    return values


MAX_WAITING_LINES = 1000
"""Lines that wait for a stderr that does not take them; more are dropped, and counted."""
SEVERITY_WIDTH = 5
_SEVERITY_TEXT = {Level.DEBUG: "DEBUG", Level.INFO: "INFO", Level.WARNING: "WARN", Level.ERROR: "ERROR"}

Format = Callable[[Line, int, int], str]
"""A line, when it was told (Unix nanoseconds), how many more there were -> text without its newline."""


def as_text(line: Line, unix_nano: int, more: int) -> str:
    """`2026-11-24T06:38:11.123Z WARN  A stream was lost. upstream=relay:32767 stream=alerts`."""
    fields = [f"{escape(name)}={_value(value)}" for name, value in line.fields.items()]
    if more:
        fields.append(f"more={more}")
    severity = _SEVERITY_TEXT[line.level].ljust(SEVERITY_WIDTH)
    return " ".join([timestamp(unix_nano), severity, escape(line.sentence), *fields])


def as_json(line: Line, unix_nano: int, more: int) -> str:
    """One object per line, its keys after OpenTelemetry's log data model."""
    attributes = escape_json(line.fields)
    if more and isinstance(attributes, dict):
        attributes["more"] = more
    record = {
        "timestamp": timestamp(unix_nano),
        "severity_text": _SEVERITY_TEXT[line.level],
        "severity_number": int(line.level),
        "event_name": line.event,
        "body": escape(line.sentence),
        "attributes": attributes,
    }
    return json.dumps(record, ensure_ascii=False)


FORMATS: dict[str, Format] = {"text": as_text, "json": as_json}


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = escape(value)
        return '"' + text.replace('"', '\\"') + '"' if text == "" or set(text) & set(' "=') else text
    if isinstance(value, int | float):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return "'" + json.dumps(escape_json(value), ensure_ascii=False) + "'"


class LineWriter:
    """Writes lines to a stream without ever making the caller wait."""

    def __init__(self, stream: TextIO, tell: Tell) -> None:
        self._stream = stream
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.dropped = 0
        """Lines dropped because the stream did not take them."""
        self.pulse = Pulse("otelbridge-stderr", may_block=True)
        self._thread = SupervisedThread(self.pulse.name, self._turn, tell=tell, give_back=self._drop, pulse=self.pulse)
        self._thread.start()

    def write(self, text: str) -> None:
        """Takes a line, or drops it where too many wait."""
        if self._waiting.qsize() >= MAX_WAITING_LINES:
            self.dropped += 1
        else:
            self._waiting.put(text)

    def close(self, timeout_seconds: float) -> None:
        """Waits for what was taken to be written, but no longer than so long."""
        self._waiting.put(None)
        self._thread.join(timeout_seconds)

    def _turn(self) -> bool:
        text = self._waiting.get()
        if text is None:
            return False
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # stderr is closed or broken: only the metric is left to say so
            self._drop()
        return True

    def _drop(self) -> None:
        self.dropped += 1


WINDOW_SECONDS = 10.0
MAX_REASONS = 1024
"""Reasons remembered; beyond it the oldest is forgotten, so that an attacker's values cannot fill the memory."""

T = TypeVar("T")


@dataclass(slots=True)
class _Window(Generic[T]):
    opened_seconds: float
    shown: int = 0
    more: int = 0
    latest: T | None = None


class Limit(Generic[T]):
    """Limits repeated lines, per reason and window. Times are monotonic seconds, given by the caller. One thread's."""

    def __init__(self, *, window_seconds: float = WINDOW_SECONDS, max_reasons: int = MAX_REASONS) -> None:
        self._window_seconds = window_seconds
        self._max_reasons = max_reasons
        self._windows: dict[Hashable, _Window[T]] = {}

    @property
    def has_windows(self) -> bool:
        """Whether `due` has something to give, or to forget, sooner or later."""
        return bool(self._windows)

    def admit(self, reason: Hashable, item: T, *, now_seconds: float, per_window: int = 1) -> bool:
        """Whether the item may be shown; if not, it is kept as the latest of its reason until `due` gives it back."""
        window = self._windows.get(reason)
        if window is None:
            if len(self._windows) >= self._max_reasons:
                self._windows.pop(next(iter(self._windows)))
            window = self._windows[reason] = _Window(now_seconds)
        if window.shown < per_window:
            window.shown += 1
            return True
        window.more += 1
        window.latest = item
        return False

    def due(self, *, now_seconds: float, all_windows: bool = False) -> list[tuple[T, int]]:
        """The latest item of each window that is over, with how many it stands for; a quiet window is forgotten.

        With `all_windows`, what is held back of windows that are not over too; those without any go on.
        """
        given: list[tuple[T, int]] = []
        for reason, window in list(self._windows.items()):
            over = now_seconds - window.opened_seconds >= self._window_seconds
            if window.latest is not None and (over or all_windows):
                given.append((window.latest, window.more))
                self._windows[reason] = _Window(now_seconds, shown=1)
            elif over:
                del self._windows[reason]
        return given


LIBRARIES = ("opentelemetry", "grpc", "urllib3", "requests", "waitress", "asyncio")
"""Loggers that speak up in this process."""
IGNORED_LOGGERS = frozenset({"waitress.queue"})
"""waitress logs every queued request, and with four threads every page load queues some."""


EXPORTERS = "opentelemetry.exporter"
"""Their errors say that the bridge's own spans or metrics did not arrive, mostly while the events' endpoint is away,
which has a warning of its own: they are told as warnings."""


MAX_EXPORTER_WARNINGS = 256


class _Listener(logging.Handler):
    def __init__(self, tell: Tell, secrets: Callable[[], Iterable[str]]) -> None:
        super().__init__(level=logging.WARNING)
        self._tell = tell
        self._secrets = secrets
        self._said: set[tuple[str, str]] = set()
        """Warnings of exporters already told: an endpoint that takes logs only causes one with every export."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in IGNORED_LOGGERS:
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the template
            message = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        message = without_values(without_credentials(message), self._secrets())
        if record.name.startswith(EXPORTERS):
            warning = (record.name, str(record.msg))
            if warning in self._said or len(self._said) >= MAX_EXPORTER_WARNINGS:
                return
            self._said.add(warning)
            message += f" This is said once; {_ending(message)} ends it."
        grave = record.levelno >= logging.ERROR and not record.name.startswith(EXPORTERS)
        self._tell(
            LibrarySpoke(
                library=record.name,
                level="error" if grave else "warning",
                template=str(record.msg),
                message=message,
            )
        )


def _ending(message: str) -> str:
    """The settings that end an exporter's warning."""
    named = [signal for signal in ("traces", "metrics") if signal in message] or ["traces", "metrics"]
    return " or ".join(f"telemetry.{signal}.exporter: none" for signal in named)


class Libraries:
    """Makes events of what libraries log, until `close`, which puts back the handlers that were there before.

    `secrets` gives values of headers, which an endpoint may echo; it is asked each time.
    """

    def __init__(self, tell: Tell, *, secrets: Callable[[], Iterable[str]]) -> None:
        self._tell = tell
        self._hook_before, threading.excepthook = threading.excepthook, self._thread_died
        self._listener = _Listener(tell, secrets)
        self._before = {name: logging.getLogger(name).propagate for name in LIBRARIES}
        for name in LIBRARIES:
            logger = logging.getLogger(name)
            logger.addHandler(self._listener)
            logger.propagate = False

    def close(self) -> None:
        """Stops listening."""
        if threading.excepthook == self._thread_died:
            threading.excepthook = self._hook_before
        for name, propagate in self._before.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self._listener)
            logger.propagate = propagate

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        """A thread that no supervisor runs, a library's, has met an exception and is gone: no traceback, but a line."""
        name = died.thread.name if died.thread else "unknown"
        error = without_credentials(f"{died.exc_type.__name__}: {died.exc_value}")
        self._tell(
            LibrarySpoke(library=name, level="error", template="thread died", message=f"Its thread died: {error}")
        )
        if self._hook_before is not threading.__excepthook__:
            self._hook_before(died)
