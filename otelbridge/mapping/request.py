"""Records in, one encoded ExportLogsServiceRequest out, grouped by resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from otelbridge import __version__
from otelbridge.event import Stream
from otelbridge.mapping.wire import delimited, varint

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
    groups: dict[bytes, list[bytes]] = {}
    for record in records:
        group = groups.get(record.resource)
        if group is None:
            group = groups[record.resource] = []
        group.append(record.encoded)
    schema = delimited(b"\x1a", SCHEMA_URL.encode())  # the same field in ScopeLogs and ResourceLogs
    scope_part = delimited(b"\x0a", scope(version))
    parts: list[bytes] = []
    for resource, group in groups.items():
        content = [scope_part]
        for encoded in group:
            content += (b"\x12", varint(len(encoded)), encoded)
        content.append(schema)
        scope_logs = b"".join(content)
        resource_part = delimited(b"\x0a", resource)
        scope_head = b"\x12" + varint(len(scope_logs))
        size = len(resource_part) + len(scope_head) + len(scope_logs) + len(schema)
        parts += (b"\x0a", varint(size), resource_part, scope_head, scope_logs, schema)
    return b"".join(parts)
