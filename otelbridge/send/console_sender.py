"""Prints each request as one line of OTLP JSON on stdout, as file and debug pipelines read it."""

from __future__ import annotations

import base64
import json
import os
import select
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.event import Signal
from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.queue.packing import unpacked

LOOK_MS = 200
"""How long a line waits for its reader before it looks whether it still should."""
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


class LineOutput:
    """Writes whole lines to a file descriptor for several threads, none of which waits for its reader for ever.

    A line that could not be written whole is ended before the next one begins.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._rest = memoryview(b"")

    def write(self, line: bytes, *, timeout_seconds: float, stop: threading.Event) -> bool:
        """Whether all of it was taken before the timeout, and before `stop` was set.

        Raises:
            OSError: nobody can read it any more, or the disk is full.
        """
        deadline = time.monotonic() + timeout_seconds
        if not self._lock.acquire(timeout=timeout_seconds):
            return False
        try:
            if not self._written(deadline, stop):
                return False
            self._rest = memoryview(line)
            try:
                return self._written(deadline, stop)
            finally:
                if len(self._rest) == len(line):  # none of it is out
                    self._rest = memoryview(b"")
        finally:
            self._lock.release()

    def _written(self, deadline: float, stop: threading.Event) -> bool:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        while self._rest:
            if poller.poll(LOOK_MS):
                # A pipe that can be written takes so much at once.
                self._rest = self._rest[os.write(self._descriptor, self._rest[: select.PIPE_BUF]) :]
            elif stop.is_set() or time.monotonic() >= deadline:
                return False
        return True


@cache
def line_output(descriptor: int) -> LineOutput:
    """The descriptor's only output, shared by all writers."""
    return LineOutput(descriptor)


class ConsoleSender:
    """Writes to a file descriptor that somebody else opened and will close."""

    def __init__(self, descriptor: int, *, timeout_seconds: float, signal: Signal = Signal.LOGS) -> None:
        self._output, self._timeout_seconds, self._signal = line_output(descriptor), timeout_seconds, signal
        self._closed = threading.Event()
        self.endpoint = "console"
        """The word for it in settings, logs and status."""
        self.certificate_expires_unix_seconds: int | None = None

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract
        """Accepted once the line is written."""
        line = f"{to_line(request, self._signal)}\n".encode()
        try:
            if self._output.write(line, timeout_seconds=self._timeout_seconds, stop=self._closed):
                return Accepted()
        except OSError as error:
            return Hold(code="stdout", why=str(error), cure="restart the bridge with its stdout open")
        return RetryLater(code="stdout", why="whoever reads stdout has stopped reading")

    def renewed(self) -> bool:
        """Never: it reads no files."""
        return False

    def close(self) -> None:
        """Stops waiting for the reader; the descriptor stays open."""
        self._closed.set()
