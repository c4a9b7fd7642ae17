"""Keeps the latest events as they passed the gate, for the status page and `tail --from-bridge`.

Only there when `status.show_events` says so. Noting keeps references and does no work; whoever asks pays for the words.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge.event import Stream
from otelbridge.mapping.decode import as_json, decode

MAX_BYTES = 4 * 1024 * 1024
"""Of events and records that are kept: events of some MiB must not add up to the memory of the pod."""
MAX_TEXT = 1024
"""Characters of one event on the page."""


class Noted(NamedTuple):
    """One event."""

    number: int
    """In the order of arrival, from 1 on in each life of the bridge."""
    stream: Stream
    received_unix_nano: int
    event: bytes
    """As it was mapped: after redaction."""
    record: bytes
    """The encoded LogRecord that it became."""

    @property
    def parses(self) -> bool:
        """Whether the event could be decoded."""
        return decode(self.stream, self.event).how != "raw"

    def text(self) -> str:
        """The record's body, for people; not escaped."""
        body = LogRecord.FromString(self.record).body
        match body.WhichOneof("value"):
            case "string_value":
                return body.string_value[:MAX_TEXT]
            case "bytes_value":
                return f"{len(body.bytes_value)} bytes that do not parse"
            case _:
                return as_json(decode(self.stream, self.event).message, MAX_TEXT)[:MAX_TEXT]


class RecentEvents:
    """A ring of events. Written by the encoder's thread, read by any."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ring: deque[Noted] = deque()
        self._bytes = 0
        self.count = 0
        """Events noted so far; the number of the last one."""

    def after(self, number: int) -> list[Noted]:
        """Those that came after one, oldest first; all that are kept for 0."""
        return [noted for noted in self._ring.copy() if noted.number > number]

    def note(self, stream: Stream, received_unix_nano: int, event: bytes, record: bytes) -> None:
        """Keeps one event, and forgets the oldest where there are too many or they are too large."""
        self.count += 1
        self._ring.append(Noted(self.count, stream, received_unix_nano, event, record))
        self._bytes += len(event) + len(record)
        while len(self._ring) > self._limit or (self._bytes > MAX_BYTES and len(self._ring) > 1):
            oldest = self._ring.popleft()
            self._bytes -= len(oldest.event) + len(oldest.record)
