"""Log lines: what was said goes in, a line of text or of JSON comes out on stderr, written by a thread of its own.

Its own thread, because a pipe that nobody reads blocks whoever writes to it; and that must never be a reader of events.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import TextIO

from otelbridge.telemetry.escape import escape, escape_json
from otelbridge.telemetry.narrator import Level, Line, timestamp

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

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.dropped = 0
        """Lines dropped because the stream did not take them."""
        self._thread = threading.Thread(target=self._run, name="otelbridge-stderr", daemon=True)
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

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # A closed or broken stderr must not end the bridge, and only the metric is left to be told.
                self.dropped += 1
