"""Prints each request as one line of OTLP JSON on stdout, as file and debug pipelines read it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.event import Signal
from otelbridge.queue.model import Accepted, Hold, Outcome
from otelbridge.queue.packing import unpacked

ID_FIELDS = ("traceId", "spanId", "parentSpanId")
"""Protobuf's JSON has bytes as base64; OTLP has these as hexadecimal."""

SHAPES: Mapping[Signal, tuple[Any, str, str, str]] = {
    Signal.LOGS: (ExportLogsServiceRequest, "resourceLogs", "scopeLogs", "logRecords"),
    Signal.TRACES: (ExportTraceServiceRequest, "resourceSpans", "scopeSpans", "spans"),
}
"""Request, and the way down to its records."""


def to_document(request: bytes, signal: Signal = Signal.LOGS) -> dict[str, Any]:
    """The request, packed or not, as plain dictionaries and lists, field names in lowerCamelCase.

    Raises:
        DamagedRequest: it is not what was packed.
        google.protobuf.message.DecodeError: it is no request of that signal.
    """
    kind, *path = SHAPES[signal]
    document = MessageToDict(kind.FromString(unpacked(request)), use_integers_for_enums=True)
    for per_resource in document.get(path[0], ()):
        for per_scope in per_resource.get(path[1], ()):
            for record in per_scope.get(path[2], ()):
                for field in ID_FIELDS:
                    if field in record:
                        record[field] = base64.b64decode(record[field]).hex()
    return document


def to_line(request: bytes, signal: Signal = Signal.LOGS) -> str:
    """The request as one line of JSON, pure ASCII: what an attacker wrote into an event cannot steer a terminal."""
    return json.dumps(to_document(request, signal), separators=(",", ":"))


class ConsoleSender:
    """Writes to a text stream that somebody else opened and will close."""

    def __init__(self, stream: TextIO, signal: Signal = Signal.LOGS) -> None:
        self._stream, self._signal = stream, signal
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The word for it in settings, logs and status."""
        return "console"

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Never: there is none."""
        return None

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract
        """Accepted once the line is flushed."""
        line = to_line(request, self._signal) + "\n"
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            return Hold(code="stdout", why=str(error), cure="restart the bridge with its stdout open")
        return Accepted()

    def renewed(self) -> bool:
        """Never: there are no files."""
        return False

    def close(self) -> None:
        """Nothing: the stream is not ours."""
