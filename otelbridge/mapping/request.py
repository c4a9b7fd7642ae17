"""Records in, one encoded ExportLogsServiceRequest out, grouped by resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from otelbridge import __version__
from otelbridge.event import Stream
from otelbridge.mapping.wire import TWO_DIGITS, TWO_DIGITS_END, delimited, varint

SCOPE_NAME = "otelbridge.kubearmor"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"


class Record(NamedTuple):
    """One log record, ready to be put into a request."""

    stream: Stream
    resource: bytes
    """Encoded Resource. Equal resources are the same object."""
    encoded: bytes
    """Encoded LogRecord."""
    time_unix_nano: int
    """When it happened, 0 where the event does not tell."""


def scope(version: str) -> bytes:
    """The encoded InstrumentationScope."""
    return delimited(b"\x0a", SCOPE_NAME.encode()) + delimited(b"\x12", version.encode())


def assemble(records: Sequence[Record], *, version: str = __version__) -> bytes:
    """One request: a ResourceLogs per resource, in the order of their first records, with one scope each."""
    schema = delimited(b"\x1a", SCHEMA_URL.encode())  # the same field in ScopeLogs and ResourceLogs
    scope_part = delimited(b"\x0a", scope(version))
    groups: dict[bytes, list[bytes]] = {}
    digits = TWO_DIGITS
    for _, resource, encoded, _ in records:
        group = groups.get(resource)
        if group is None:
            group = groups[resource] = [scope_part]
        size = len(encoded)
        group += (b"\x12", digits[size] if size < TWO_DIGITS_END else varint(size), encoded)
    parts: list[bytes] = []
    for resource, group in groups.items():
        group.append(schema)
        scope_logs = b"".join(group)
        resource_part = delimited(b"\x0a", resource)
        scope_head = b"\x12" + varint(len(scope_logs))
        size = len(resource_part) + len(scope_head) + len(scope_logs) + len(schema)
        parts += (b"\x0a", varint(size), resource_part, scope_head, scope_logs, schema)
    return b"".join(parts)
