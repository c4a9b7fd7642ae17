"""The latest events, as they passed the gate: noted by the encoder, read by the status page and `tail --from-bridge`.

Only there when `status.show_events` says so. Noting keeps references and does no work; whoever asks pays for the words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge.event import Stream
from otelbridge.mapping.body import as_json
from otelbridge.mapping.decode import Decoded, Event
from otelbridge.mapping.request import Record

MapEvent = Callable[[Stream, Decoded, int], Record]

MAX_BYTES = 4 * 1024 * 1024
"""Of records that are kept: events of some MiB must not add up to the memory of the pod."""
MAX_TEXT = 1024
"""Characters of one event on the page."""


class Noted(NamedTuple):
    """One event."""

    number: int
    """In the order of arrival, from 1 on in each life of the bridge."""
    stream: Stream
    received_unix_nano: int
    message: Event
    """After redaction."""
    parses: bool
    record: bytes
    """The encoded LogRecord that it became."""

    def text(self) -> str:
        """The record's body, for people; not escaped."""
        body = LogRecord.FromString(self.record).body
        match body.WhichOneof("value"):
            case "string_value":
                return body.string_value[:MAX_TEXT]
            case "bytes_value":
                return f"{len(body.bytes_value)} bytes that do not parse"
            case _:
                return as_json(self.message, MAX_TEXT)[:MAX_TEXT]


class RecentEvents:
    """A ring of events. Written by the encoder's thread, read by any."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ring: deque[Noted] = deque()
        self._bytes = 0
        self.count = 0
        """Events noted so far; the number of the last one."""

    def noting(self, map_event: MapEvent) -> MapEvent:
        """The same mapping, which also notes what passes."""

        def map_and_note(stream: Stream, decoded: Decoded, received_unix_nano: int) -> Record:
            record = map_event(stream, decoded, received_unix_nano)
            self._note(stream, received_unix_nano, decoded, record.encoded)
            return record

        return map_and_note

    def after(self, number: int) -> list[Noted]:
        """Those that came after one, oldest first; all that are kept for 0."""
        return [noted for noted in self._ring.copy() if noted.number > number]

    def _note(self, stream: Stream, received_unix_nano: int, decoded: Decoded, record: bytes) -> None:
        self.count += 1
        self._ring.append(Noted(self.count, stream, received_unix_nano, decoded.message, decoded.how != "raw", record))
        self._bytes += len(record)
        while len(self._ring) > self._limit or (self._bytes > MAX_BYTES and len(self._ring) > 1):
            self._bytes -= len(self._ring.popleft().record)
